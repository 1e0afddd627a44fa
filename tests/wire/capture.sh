#!/usr/bin/env bash
# Takes tests/wire/captures/keepalived-*.hex anew: a real keepalived in a network namespace of its
# own, with one virtual router per kind of advert, and tcpdump at the other end of its cable.
# Needs root, keepalived, tcpdump and iproute2. Takes about 10 s and leaves nothing behind.
set -euo pipefail

captures=$(cd "$(dirname "$0")" && pwd)/captures
work=$(mktemp -d)
here=vipd-wire-$$-a
there=vipd-wire-$$-b
keepalived_pid=
tcpdump_pid=

end() {
    for pid in $keepalived_pid $tcpdump_pid; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
    done
    ip netns del "$here" 2>/dev/null || true
    ip netns del "$there" 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
trap 'exit 1' INT TERM

# A cable between two namespaces, with fixed MACs so that the link-local source stays the same.
for namespace in "$here" "$there"; do
    ip netns add "$namespace"
    ip netns exec "$namespace" sh -c 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad'
    ip -n "$namespace" link set lo up
done
ip -n "$here" link add eth0 address 02:00:00:00:00:01 type veth \
    peer name eth0 netns "$there" address 02:00:00:00:00:02
ip -n "$here" address add 192.0.2.1/24 dev eth0
ip -n "$here" address add 2001:db8::1/64 dev eth0 nodad
ip -n "$there" address add 192.0.2.2/24 dev eth0
ip -n "$there" address add 2001:db8::2/64 dev eth0 nodad
ip -n "$here" link set eth0 up
ip -n "$there" link set eth0 up

cat > "$work/keepalived.conf" <<'CONF'
global_defs {
    vrrp_version 3
}
vrrp_instance v2 {
    version 2
    interface eth0
    virtual_router_id 1
    priority 150
    advert_int 1
    virtual_ipaddress { 192.0.2.10 }
}
vrrp_instance v2-simple-text {
    version 2
    interface eth0
    virtual_router_id 2
    priority 150
    advert_int 2
    authentication {
        auth_type PASS
        auth_pass secret42
    }
    virtual_ipaddress { 192.0.2.20 }
}
vrrp_instance v2-several {
    version 2
    interface eth0
    virtual_router_id 3
    advert_int 1
    virtual_ipaddress {
        192.0.2.30
        192.0.2.31
        192.0.2.32
    }
}
vrrp_instance v3-ipv4 {
    interface eth0
    virtual_router_id 4
    priority 150
    advert_int 1
    virtual_ipaddress { 192.0.2.40 }
}
vrrp_instance v3-ipv4-several {
    interface eth0
    virtual_router_id 5
    priority 254
    advert_int 1
    virtual_ipaddress {
        192.0.2.52
        192.0.2.50
        192.0.2.51
        198.51.100.5
    }
}
vrrp_instance v3-ipv4-100ms {
    interface eth0
    virtual_router_id 6
    priority 150
    advert_int 0.1
    virtual_ipaddress { 192.0.2.60 }
}
vrrp_instance v3-ipv4-unicast {
    interface eth0
    virtual_router_id 7
    priority 150
    advert_int 1
    unicast_src_ip 192.0.2.1
    unicast_peer { 192.0.2.2 }
    virtual_ipaddress { 192.0.2.70 }
}
vrrp_instance v3-ipv6 {
    interface eth0
    virtual_router_id 8
    priority 150
    advert_int 1
    virtual_ipaddress { fe80::80 }
}
vrrp_instance v3-ipv6-several {
    interface eth0
    virtual_router_id 9
    priority 1
    advert_int 1
    virtual_ipaddress {
        2001:db8::90
        fe80::90
        2001:db8::91
    }
}
vrrp_instance v3-ipv6-100ms {
    interface eth0
    virtual_router_id 10
    priority 150
    advert_int 0.1
    virtual_ipaddress { fe80::a0 }
}
vrrp_instance v3-ipv6-unicast {
    interface eth0
    virtual_router_id 11
    priority 150
    advert_int 1
    unicast_src_ip 2001:db8::1
    unicast_peer { 2001:db8::2 }
    virtual_ipaddress { 2001:db8::b0 }
}
CONF

ip netns exec "$there" tcpdump -i eth0 -n -U --immediate-mode -Z root \
    -w "$work/all.pcap" 'ip proto 112 or ip6 proto 112' 2> "$work/tcpdump.log" &
tcpdump_pid=$!
until grep -q listening "$work/tcpdump.log"; do
    kill -0 "$tcpdump_pid"
    sleep 0.1
done

ip netns exec "$here" keepalived --dont-fork --vrrp --log-console \
    --use-file "$work/keepalived.conf" --pid "$work/parent.pid" \
    --vrrp_pid "$work/vrrp.pid" --checkers_pid "$work/checkers.pid" \
    > "$work/keepalived.log" 2>&1 &
keepalived_pid=$!

# The slowest, of priority 100 and of 2 s, have spoken after 7 s; the last word is priority 0.
sleep 8
kill "$keepalived_pid"
wait "$keepalived_pid" || true
keepalived_pid=
sleep 0.5
kill "$tcpdump_pid"
wait "$tcpdump_pid" || true
tcpdump_pid=

# One line per packet, from the IP header on.
tcpdump -r "$work/all.pcap" -n -t -x 2> /dev/null | awk '
    /^\t0x/ { sub(/^[^:]*:/, ""); gsub(/[ \t]/, ""); packet = packet $0; next }
    { if (packet) print packet; packet = "" }
    END { if (packet) print packet }' > "$work/packets"

version=$(keepalived --version 2>&1 | awk 'NR == 1 { print $2 }')
save() { # name, VRID, description
    local start=40 vrid packets
    [[ $1 == *ipv6* ]] && start=80
    vrid=$(printf '%02x' "$2")
    packets=$(awk -v start=$((start + 1)) -v vrid="$vrid" -v ip=$((start == 80 ? 6 : 4)) '
        substr($0, 1, 1) == ip && substr($0, start + 2, 2) == vrid {
            if (!first) first = $0
            last = $0
        }
        END { print first; print last }' "$work/packets")
    if [[ $(wc -w <<< "$packets") != 2 ]]; then
        echo "$1 was not heard; keepalived said:" >&2
        cat "$work/keepalived.log" >&2
        exit 1
    fi
    cat > "$captures/keepalived-$1.hex" <<HEX
# keepalived $version: $3.
# Its first advert and its last, at its stop, from the IP header on; captured by tcpdump at the
# other end of a veth pair, with tests/wire/capture.sh.
$packets
HEX
}
mkdir -p "$captures"
save v2 1 "version 2 without authentication"
save v2-simple-text 2 "version 2, simple-text authentication, an advert every 2 s"
save v2-several 3 "version 2, three addresses"
save v3-ipv4 4 "version 3 over IPv4"
save v3-ipv4-several 5 "version 3 over IPv4, four addresses"
save v3-ipv4-100ms 6 "version 3 over IPv4, an advert every 100 ms"
save v3-ipv4-unicast 7 "version 3 over IPv4, unicast"
save v3-ipv6 8 "version 3 over IPv6"
save v3-ipv6-several 9 "version 3 over IPv6, three addresses, the link-local one not first"
save v3-ipv6-100ms 10 "version 3 over IPv6, an advert every 100 ms"
save v3-ipv6-unicast 11 "version 3 over IPv6, unicast"
