//! The host modules on a real kernel. Every test has two network namespaces of its own, connected
//! by a veth pair, and no privileges outside them.
#![allow(clippy::unwrap_used)]
#![deny(dead_code)]

mod lab;
mod suite;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{self, Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink_sys::SocketAddr;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use socket2::{Domain, Socket, Type};
use suite::tests;
use vipd::host::advert_socket::{AdvertSocket, OutgoingAdvert};
use vipd::host::clock::{Clock, Timer, boottime};
use vipd::host::neighbours::{ForeignAnnouncement, NeighbourSocket};
use vipd::host::netlink::{
    AddressError, InterfaceAddress, JobOutcome, JobTarget, LinkChange, Links, Monitor, NetEvent,
    Operation, Progress, Worker, WorkerJob, neighbour_tables,
};
use vipd::host::sys;
use vipd::vrrp::{Address, Family, Mark, Vrid};

fn main() -> ExitCode {
    suite::main(2, |_| {
        tests![
            adverts_arrive_as_they_were_sent,
            a_socket_survives_a_link_that_was_down,
            sent_adverts_have_the_header_fields_of_the_rfc,
            only_the_vrids_listened_for_arrive,
            one_advert_that_fails_does_not_stop_the_others,
            adverts_leave_although_their_source_has_just_gone,
            an_advert_that_did_not_arrive_does_not_keep_the_next_one_back,
            groups_get_permanent_neighbour_entries_and_lose_only_ours,
            a_claimed_address_is_marked_and_has_no_side_effects,
            a_lease_ends_and_is_not_brought_back,
            a_renewal_keeps_the_mark_and_can_be_too_late,
            addresses_of_the_host_are_never_touched,
            addresses_of_another_daemon_are_never_touched,
            an_address_passes_between_virtual_routers_of_one_daemon,
            a_claim_survives_a_changed_prefix_length,
            a_prefix_brings_a_route_and_takes_nothing_from_the_host,
            a_wrong_absent_hint_is_verified,
            a_large_claim_reports_its_parts_and_renewals_are_filtered,
            thousands_of_addresses_are_claimed_in_one_job,
            a_failed_job_reports_the_reason,
            an_interface_is_followed_by_its_name,
            addresses_come_and_go,
            a_bridge_port_that_leaves_is_not_gone,
            after_an_overflow_the_state_is_right,
            netlink_messages_of_other_processes_are_dropped,
            announcements_are_encoded_exactly,
            neighbours_accept_announcements,
            other_announcers_are_seen_and_nothing_else,
            readiness_reaches_tokio,
        ]
    })
}

// ---- namespaces ----

const LEFT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const RIGHT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Two namespaces: the thread runs in one, which has the interface `left` (192.0.2.1, 2001:db8::1,
/// fe80::ff:fe00:1). The other has `right` (192.0.2.2, 2001:db8::2, fe80::ff:fe00:2).
struct VethPair {
    here: File,
    there: File,
}

impl VethPair {
    fn new() -> Self {
        let there = new_namespace();
        let here = new_namespace();
        let lab = VethPair { here, there };
        ip("link add left address 02:00:00:00:00:01 type veth \
            peer name right address 02:00:00:00:00:02");
        let there = format!("/proc/{}/fd/{}", process::id(), lab.there.as_raw_fd());
        ip(&format!("link set right netns {there}"));
        lab.there(|| {
            ip("addr add 192.0.2.2/24 dev right");
            ip("addr add 2001:db8::2/64 dev right");
            ip("link set right up");
        });
        ip("addr add 192.0.2.1/24 dev left");
        ip("addr add 2001:db8::1/64 dev left");
        ip("link set left up");
        let ready = |name: &str| {
            let text = output("ip", &format!("-j addr show dev {name}"));
            text.contains("\"UP\"") && text.contains("fe80::") && !text.contains("tentative")
        };
        eventually("the cable", || ready("left") && lab.there(|| ready("right")));
        lab
    }

    fn there<T>(&self, action: impl FnOnce() -> T) -> T {
        setns(self.there.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        let result = action();
        setns(self.here.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        result
    }
}

fn new_namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    for (setting, value) in
        [("accept_dad", "0"), ("dad_transmits", "0"), ("router_solicitations", "0")]
    {
        fs::write(format!("/proc/sys/net/ipv6/conf/default/{setting}"), value).unwrap();
    }
    ip("link set lo up");
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn ip(arguments: &str) {
    output("ip", arguments);
}

fn output(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

/// Waits until `holds` is true; fails after 20 s.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn readable(fd: &impl AsFd, within: Duration) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(within).unwrap()).unwrap() == 1
}

/// Captures frames that an interface receives, but not those it sends.
struct FrameCapture(Socket);

impl FrameCapture {
    fn on(name: &str) -> Self {
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None).unwrap();
        sys::set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1).unwrap();
        socket.set_recv_buffer_size(1 << 20).unwrap();
        let all = libc::ETH_P_ALL as u16;
        socket.bind(&sys::link_address(index(name), all, [0; 6])).unwrap();
        FrameCapture(socket)
    }

    fn send(&self, frame: &[u8]) {
        nix::unistd::write(&self.0, frame).unwrap();
    }

    /// Waits for `count` frames that are `wanted`, and drops the others.
    fn frames(&self, count: usize, wanted: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while frames.len() < count {
            assert!(readable(&self.0, Duration::from_secs(20)), "{} frames", frames.len());
            let mut buffer = vec![0; 2048];
            let length = nix::unistd::read(&self.0, &mut buffer).unwrap();
            buffer.truncate(length);
            if wanted(&buffer) {
                frames.push(buffer);
            }
        }
        frames
    }
}

// ---- adverts ----

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

#[derive(Clone, Debug, PartialEq)]
struct ReceivedAdvert {
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    message: Vec<u8>,
}

fn vrids(numbers: &[u8]) -> Vec<Vrid> {
    numbers.iter().map(|number| Vrid::new(*number).unwrap()).collect()
}

fn socket(name: &str, family: Family, numbers: &[u8]) -> AdvertSocket {
    let socket = AdvertSocket::open(index(name), family).unwrap();
    socket.listen_for(&vrids(numbers)).unwrap();
    socket
}

fn waiting(socket: &mut AdvertSocket) -> Vec<ReceivedAdvert> {
    let mut seen = Vec::new();
    let count = socket.receive(|advert| {
        seen.push(ReceivedAdvert {
            source: advert.source,
            destination: advert.destination,
            ttl: advert.ttl,
            message: advert.message.to_vec(),
        });
    });
    assert_eq!(count.unwrap(), seen.len());
    seen
}

fn received(socket: &mut AdvertSocket, count: usize) -> Vec<ReceivedAdvert> {
    let mut seen = Vec::new();
    eventually("adverts", || {
        seen.extend(waiting(socket));
        seen.len() >= count
    });
    seen
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A message with a wrong checksum and trailing bytes, which must arrive unchanged.
fn message(vrid: u8) -> Vec<u8> {
    vec![0x31, vrid, 100, 1, 0xf0, 100, 0xde, 0xad, 192, 0, 2, 10, 0xbe, 0xef]
}

fn adverts_arrive_as_they_were_sent() {
    let lab = VethPair::new();
    let cases = [
        (Family::V4, "192.0.2.1", "224.0.0.18"),
        (Family::V4, "192.0.2.1", "192.0.2.2"),
        (Family::V6, "fe80::ff:fe00:1", "ff02::12"),
        (Family::V6, "fe80::ff:fe00:1", "fe80::ff:fe00:2"),
        (Family::V6, "2001:db8::1", "2001:db8::2"),
    ];
    for (family, from, to) in cases {
        let mut ours = socket("left", family, &[51]);
        let mut theirs = lab.there(|| socket("right", family, &[51]));
        ours.send(address(from), address(to), &message(51)).unwrap();
        let expected = ReceivedAdvert {
            source: address(from),
            destination: address(to),
            ttl: 255,
            message: message(51),
        };
        assert!(readable(&theirs, Duration::from_secs(20)));
        assert_eq!(received(&mut theirs, 1), [expected]);
        assert!(!readable(&theirs, Duration::ZERO));
        // This reply would arrive after a copy of our own advert.
        let (back, home) = match family {
            Family::V4 => ("192.0.2.2", "192.0.2.1"),
            Family::V6 => ("2001:db8::2", "2001:db8::1"),
        };
        theirs.send(address(back), address(home), &message(51)).unwrap();
        let heard = received(&mut ours, 1);
        assert_eq!(heard.len(), 1, "we heard ourselves: {heard:?}");
        assert_ne!(heard[0].source, address(from));
    }
}

fn a_socket_survives_a_link_that_was_down() {
    let lab = VethPair::new();
    for (family, from, to) in
        [(Family::V4, "192.0.2.1", "224.0.0.18"), (Family::V6, "fe80::ff:fe00:1", "ff02::12")]
    {
        let ours = socket("left", family, &[51]);
        let mut theirs = lab.there(|| socket("right", family, &[51]));
        for away in ["left", "right"] {
            let set = |state: &str| ip(&format!("link set {away} {state}"));
            let switch = |state: &str| {
                if away == "left" {
                    set(state)
                } else {
                    lab.there(|| set(state))
                };
            };
            switch("down");
            let _ = ours.send(address(from), address(to), &message(51));
            waiting(&mut theirs);
            switch("up");
            eventually("an advert that arrives", || {
                let _ = ours.send(address(from), address(to), &message(51));
                !waiting(&mut theirs).is_empty()
            });
        }
    }
}

fn sent_adverts_have_the_header_fields_of_the_rfc() {
    let lab = VethPair::new();
    let capture = lab.there(|| FrameCapture::on("right"));

    let ours = socket("left", Family::V4, &[51]);
    ours.send(address("192.0.2.1"), GROUP_V4.into(), &message(51)).unwrap();
    let frame = capture.frames(1, |frame| frame[12..14] == [8, 0] && frame[23] == 112).remove(0);
    assert_eq!(frame[..6], [1, 0, 0x5e, 0, 0, 18]);
    assert_eq!(frame[14], 0x45, "no options (RFC 9568 5.1.1)");
    assert_eq!(frame[15], 0xc0);
    assert_eq!(frame[22], 255, "TTL (RFC 9568 5.1.1.3)");
    assert_eq!(frame[34..], message(51));

    let ours = socket("left", Family::V6, &[51]);
    ours.send(address("fe80::ff:fe00:1"), GROUP_V6.into(), &message(51)).unwrap();
    let frame =
        capture.frames(1, |frame| frame[12..14] == [0x86, 0xdd] && frame[20] == 112).remove(0);
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 0x12]);
    assert_eq!([frame[14], frame[15] & 0xf0], [0x6c, 0], "traffic class 0xc0");
    assert_eq!(frame[21], 255, "hop limit (RFC 9568 5.1.2.3)");
    assert_eq!(frame[54..], message(51));
}

fn only_the_vrids_listened_for_arrive() {
    let lab = VethPair::new();
    let all: Vec<u8> = (1..=255).collect();
    let sets: &[&[u8]] = &[&[], &[51], &[1, 31, 32, 33, 63, 64, 128, 254, 255], &all];
    for (family, from, to) in
        [(Family::V4, "192.0.2.1", "224.0.0.18"), (Family::V6, "fe80::ff:fe00:1", "ff02::12")]
    {
        let ours = socket("left", family, &[]);
        let mut theirs = lab.there(|| socket("right", family, &[]));
        let send = |message: &[u8]| ours.send(address(from), address(to), message).unwrap();
        for set in sets {
            theirs.listen_for(&vrids(set)).unwrap();
            for vrid in 0..=255 {
                send(&[0x31, vrid, 0, 0, 0, 0, 0, 0]);
                send(&[0x31, vrid, 0, 0, 0, 0, 0]);
                send(&[0x31, vrid]);
            }
            send(&[]);
            // Four no-operation options make the IPv4 header longer and change nothing else.
            if family == Family::V4 {
                let options = |value| {
                    let level = libc::IPPROTO_IP;
                    sys::set_option(ours.as_fd(), level, libc::IP_OPTIONS, value).unwrap();
                };
                options(0x0101_0101);
                send(&[0x31, 51, 0, 0, 0, 0, 0, 1]);
                send(&[0x31, 51, 0, 0, 0, 0, 0]);
                send(&[0x31, 52, 0, 0, 0, 0, 0, 1]);
                options(0);
            }
            // After this one nothing else is on the way.
            theirs.listen_for(&vrids(&[200])).unwrap();
            send(&[0x31, 200, 0, 0, 0, 0, 0, 200]);
            let mut seen = Vec::new();
            eventually("the last advert", || {
                seen.extend(waiting(&mut theirs).into_iter().map(|seen| seen.message));
                seen.last().is_some_and(|last| last[7] == 200)
            });
            seen.pop();
            let mut expected: Vec<Vec<u8>> =
                set.iter().map(|vrid| vec![0x31, *vrid, 0, 0, 0, 0, 0, 0]).collect();
            for vrid in [51, 52] {
                if family == Family::V4 && set.contains(&vrid) {
                    expected.push(vec![0x31, vrid, 0, 0, 0, 0, 0, 1]);
                }
            }
            assert_eq!(seen, expected, "{family}");
        }
    }
}

fn one_advert_that_fails_does_not_stop_the_others() {
    let lab = VethPair::new();
    let ours = socket("left", Family::V4, &[]);
    let mut theirs = lab.there(|| socket("right", Family::V4, &[51]));
    let message = message(51);
    let adverts: Vec<OutgoingAdvert<'_>> = (0..100)
        .map(|place| OutgoingAdvert {
            from: address(if place % 40 == 20 { "224.0.0.1" } else { "192.0.2.1" }),
            to: GROUP_V4.into(),
            message: &message,
        })
        .collect();
    let mut failed = Vec::new();
    ours.send_many(adverts, |place, _| failed.push(place));
    assert_eq!(failed, [20, 60]);
    assert_eq!(received(&mut theirs, 98).len(), 98);
    ours.send_many([], |_, _| panic!("nothing was sent"));
}

fn adverts_leave_although_their_source_has_just_gone() {
    let lab = VethPair::new();
    ip("addr add 192.0.2.10/32 dev left");
    for (family, from, prefix, to) in [
        (Family::V4, "192.0.2.1", 24, "224.0.0.18"),
        (Family::V4, "192.0.2.1", 24, "192.0.2.2"),
        (Family::V6, "fe80::ff:fe00:1", 64, "ff02::12"),
    ] {
        let ours = socket("left", family, &[51]);
        let mut theirs = lab.there(|| socket("right", family, &[51]));
        ip(&format!("addr del {from}/{prefix} dev left"));
        ours.send(address(from), address(to), &message(51)).unwrap();
        assert_eq!(received(&mut theirs, 1)[0].source, address(from));
        ip(&format!("addr add {from}/{prefix} dev left"));
    }
}

fn an_advert_that_did_not_arrive_does_not_keep_the_next_one_back() {
    let lab = VethPair::new();
    for (family, from, to) in
        [(Family::V4, "192.0.2.1", "192.0.2.2"), (Family::V6, "2001:db8::1", "2001:db8::2")]
    {
        let mut ours = socket("left", family, &[51]);
        // Nobody there knows the protocol, which the other kernel reports.
        ours.send(address(from), address(to), &message(51)).unwrap();
        assert!(readable(&ours, Duration::from_secs(20)), "{family}");
        let mut theirs = lab.there(|| socket("right", family, &[51]));
        ours.send(address(from), address(to), &message(51)).unwrap();
        assert_eq!(received(&mut theirs, 1).len(), 1, "{family}");
        let mut errors = Vec::new();
        ours.receive_errors(|to, error| errors.push((to, error.raw_os_error().unwrap())));
        let expected = if family == Family::V4 { libc::ENOPROTOOPT } else { libc::EPROTO };
        assert_eq!(errors, [(address(to), expected)]);
        assert!(!readable(&ours, Duration::ZERO), "{family}");
    }
}

fn groups_get_permanent_neighbour_entries_and_lose_only_ours() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    let groups = [GROUP_V4.into(), GROUP_V6.into()].map(Address::host);
    let mut ask = |operation| job(&mut worker, "left", (Arc::from(groups), operation));
    let entries = || output("ip", "neigh show nud permanent dev left");
    let ours = socket("left", Family::V4, &[]);
    // One that the kernel has made by itself is replaced.
    ours.send(address("192.0.2.1"), GROUP_V4.into(), &message(51)).unwrap();
    for _ in 0..2 {
        assert_eq!(ask(Operation::AddGroups), []);
        for entry in ["224.0.0.18 lladdr 01:00:5e:00:00:12", "ff02::12 lladdr 33:33:00:00:00:12"] {
            assert!(entries().contains(entry), "{}", entries());
        }
    }
    assert_eq!(ask(Operation::RemoveGroups), []);
    assert_eq!(ask(Operation::RemoveGroups), []);
    assert_eq!(entries(), "");
    // Those of an operator stay as they are.
    ip("neigh add 224.0.0.18 lladdr 02:00:00:00:00:09 nud permanent dev left");
    ask(Operation::AddGroups);
    ask(Operation::RemoveGroups);
    assert!(entries().contains("224.0.0.18 lladdr 02:00:00:00:00:09"), "{}", entries());
    assert!(!entries().contains("ff02::12"), "{}", entries());
    let tables = neighbour_tables().unwrap();
    let families: Vec<Family> = tables.iter().map(|table| table.family).collect();
    assert!(families.contains(&Family::V4) && families.contains(&Family::V6), "{tables:?}");
    assert!(tables.iter().all(|table| table.entries > 0 && table.limit > 100), "{tables:?}");
}

// ---- addresses ----

fn wait_for(worker: &mut Worker, ticket: u64) -> JobOutcome {
    loop {
        assert!(readable(worker, Duration::from_secs(20)));
        let Some(done) = worker.progress().find_map(Progress::outcome) else { continue };
        assert_eq!(done.ticket, ticket);
        assert!(done.started <= done.finished && done.finished <= boottime());
        return done;
    }
}

/// An operation and the addresses that it is done to.
type Work = (Arc<[Address]>, Operation);

fn submit(worker: &Worker, ticket: u64, index: u32, (addresses, operation): Work) {
    submit_for(worker, ticket, (index, mark(51), &[]), (addresses, operation));
}

fn submit_for(
    worker: &Worker,
    ticket: u64,
    (index, mark, ours): (u32, Mark, &[Mark]),
    (addresses, operation): Work,
) {
    let target = JobTarget { index, addresses, mark, ours: Arc::from(ours) };
    worker.submit(WorkerJob { ticket, target, operation });
}

/// Of IPv4 with this VRID.
fn mark(vrid: u8) -> Mark {
    Mark::Router(Family::V4, Vrid::new(vrid).unwrap())
}

fn job(worker: &mut Worker, name: &str, work: Work) -> Vec<(Address, AddressError)> {
    submit(worker, 7, index(name), work);
    wait_for(worker, 7).failures
}

fn addresses(list: &[&str]) -> Arc<[Address]> {
    list.iter()
        .map(|text| match text.split_once('/') {
            Some((ip, prefix)) => Address { ip: address(ip), prefix: prefix.parse().unwrap() },
            None => Address::host(address(text)),
        })
        .collect()
}

fn claim(list: &[&str], lifetime: Option<u32>) -> Work {
    (addresses(list), Operation::Claim { lifetime, absent: false })
}

fn renew(list: &[&str], lifetime: u32) -> Work {
    let not_after = boottime() + Duration::from_secs(60);
    (addresses(list), Operation::Renew { lifetime, not_after, intact: false })
}

fn release(list: &[&str]) -> Work {
    (addresses(list), Operation::Release)
}

/// All addresses of an interface, as a new monitor lists them.
fn present(name: &str) -> Vec<InterfaceAddress> {
    let mut events = Monitor::open().unwrap();
    let (mut found, mut synced, wanted) = (Vec::new(), false, index(name));
    eventually("a list of addresses", || {
        events
            .read(|event| match event {
                NetEvent::Resync => found.clear(),
                NetEvent::Address(address) if address.index == wanted => {
                    // An address that changes during the dump is reported again.
                    found.retain(|known: &InterfaceAddress| known.address() != address.address());
                    found.push(address);
                }
                NetEvent::Synced => synced = true,
                _ => {}
            })
            .unwrap();
        synced
    });
    found
}

fn marked(name: &str) -> Vec<String> {
    let ours = present(name).into_iter().filter(|found| found.mark != Mark::None);
    ours.map(|found| format!("{}/{}", found.ip, found.prefix)).collect()
}

/// One address as iproute2 shows it.
fn detail(name: &str, ip: &str) -> serde_json::Value {
    let text = output("ip", &format!("-j addr show dev {name}"));
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let list = all[0]["addr_info"].as_array().unwrap();
    list.iter().find(|address| address["local"] == ip).unwrap().clone()
}

fn lifetime(name: &str, ip: &str) -> u64 {
    detail(name, ip)["valid_life_time"].as_u64().unwrap()
}

const FOR_EVER: u64 = u32::MAX as u64;

fn a_claimed_address_is_marked_and_has_no_side_effects() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    let routes = || output("ip", "route") + &output("ip", "-6 route");
    let before =
        (routes(), output("ip", "route get 192.0.2.2"), output("ip", "-6 route get 2001:db8::2"));
    let list = ["192.0.2.10", "2001:db8::10", "fe80::10", "169.254.0.10"];
    assert_eq!(job(&mut worker, "left", claim(&list, None)), []);
    assert!(!readable(&worker, Duration::ZERO));

    let mut ours = marked("left");
    ours.sort();
    assert_eq!(ours, ["169.254.0.10/32", "192.0.2.10/32", "2001:db8::10/128", "fe80::10/128"]);
    let scopes = list.map(|ip| detail("left", ip)["scope"].as_str().unwrap().to_owned());
    assert_eq!(scopes, ["global", "global", "link", "link"]);
    for ip in list {
        let detail = detail("left", ip);
        assert_eq!(detail["valid_life_time"], FOR_EVER, "{detail}");
        assert_eq!(detail["noprefixroute"], true, "{detail}");
    }
    assert_eq!(detail("left", "2001:db8::10")["preferred_life_time"], 0);
    assert!(present("left").iter().all(|found| found.link_address().sendable()));
    let after =
        (routes(), output("ip", "route get 192.0.2.2"), output("ip", "-6 route get 2001:db8::2"));
    assert_eq!(after, before, "routes and source addresses are the host's own");

    // Claim again, as after a restart; then release twice.
    assert_eq!(job(&mut worker, "left", claim(&list, Some(30))), []);
    assert!(list.iter().all(|ip| (20..=30).contains(&lifetime("left", ip))));
    assert_eq!(marked("left").len(), 4);
    assert_eq!(job(&mut worker, "left", release(&list)), []);
    assert_eq!(job(&mut worker, "left", release(&list)), []);
    assert_eq!(marked("left"), [""; 0]);
    assert_eq!(present("left").len(), 3);
}

fn a_lease_ends_and_is_not_brought_back() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    let list = ["192.0.2.10", "2001:db8::10"];
    assert_eq!(job(&mut worker, "left", claim(&list, Some(1))), []);
    eventually("the end of the lease", || marked("left").is_empty());
    let gone: Vec<_> = addresses(&list).iter().map(|a| (*a, AddressError::Gone)).collect();
    assert_eq!(job(&mut worker, "left", renew(&list, 30)), gone);
    assert_eq!(marked("left"), [""; 0]);
}

fn a_renewal_keeps_the_mark_and_can_be_too_late() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    let list = ["192.0.2.10", "2001:db8::10"];
    assert_eq!(job(&mut worker, "left", claim(&list, Some(30))), []);
    assert_eq!(job(&mut worker, "left", renew(&list, 90)), []);
    assert!(list.iter().all(|ip| (80..=90).contains(&lifetime("left", ip))));
    assert_eq!(detail("left", "2001:db8::10")["preferred_life_time"], 0);
    assert_eq!(marked("left").len(), 2);

    let late = Operation::Renew { lifetime: 600, not_after: boottime(), intact: false };
    let failures: Vec<_> = addresses(&list).iter().map(|a| (*a, AddressError::Late)).collect();
    assert_eq!(job(&mut worker, "left", (addresses(&list), late)), failures);
    assert!(list.iter().all(|ip| lifetime("left", ip) <= 90));
}

fn addresses_of_the_host_are_never_touched() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    // With the prefix length that ours would have, and with others.
    ip("addr add 192.0.2.10/32 dev left");
    ip("addr add 2001:db8::10/128 dev left nodad");
    let theirs = ["192.0.2.1", "192.0.2.10", "2001:db8::1", "2001:db8::10"];
    let before = present("left");
    let already: Vec<_> =
        addresses(&theirs).iter().map(|a| (*a, AddressError::AlreadyThere(Mark::None))).collect();

    let mut wanted = theirs.to_vec();
    wanted.push("192.0.2.11");
    assert_eq!(job(&mut worker, "left", claim(&wanted, Some(2))), already);
    assert_eq!(marked("left"), ["192.0.2.11/32"]);
    assert_eq!(job(&mut worker, "left", renew(&wanted, 2)), already);
    assert_eq!(job(&mut worker, "left", release(&wanted)), []);
    assert_eq!(present("left"), before);
    assert!(theirs.iter().all(|ip| lifetime("left", ip) == FOR_EVER));
}

fn addresses_of_another_daemon_are_never_touched() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    // Also with a route to the subnet, which would be the same for both.
    let list = ["198.51.100.10/24", "2001:db8:7::10/64"];
    assert_eq!(job(&mut worker, "left", claim(&list, Some(300))), []);
    let routes = || output("ip", "route") + &output("ip", "-6 route");
    let (before, way) = (present("left"), routes());
    assert!(before.iter().filter(|found| found.mark == mark(51)).count() == 2, "{before:?}");
    let mut other = |work: Work, ours: &[Mark]| {
        submit_for(&worker, 8, (index("left"), mark(52), ours), work);
        wait_for(&mut worker, 8).failures
    };
    let there: Vec<_> =
        addresses(&list).iter().map(|a| (*a, AddressError::AlreadyThere(mark(51)))).collect();
    let absent = Operation::Claim { lifetime: Some(9), absent: true };
    for ours in [&[][..], &[mark(52), mark(53)]] {
        assert_eq!(other(claim(&list, Some(9)), ours), there);
        assert_eq!(other((addresses(&list), absent), ours), there);
        assert_eq!(other(renew(&list, 9), ours), there);
        assert_eq!(other(release(&list), ours), []);
    }
    assert_eq!((present("left"), routes()), (before, way));
    let ips = ["198.51.100.10", "2001:db8:7::10"];
    assert!(ips.iter().all(|ip| lifetime("left", ip) > 200));
    assert!(there[0].1.to_string().contains("another vipd on this host"), "{}", there[0].1);
}

fn an_address_passes_between_virtual_routers_of_one_daemon() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    let list = ["192.0.2.10", "2001:db8::10"];
    let mut of = |router: Mark, ours: &[Mark], work: Work| {
        submit_for(&worker, 8, (index("left"), router, ours), work);
        wait_for(&mut worker, 8).failures
    };
    let marks = || {
        let all = present("left").into_iter().map(|found| found.mark);
        all.filter(|mark| *mark != Mark::None).collect::<Vec<_>>()
    };
    assert_eq!(of(mark(51), &[], claim(&list, None)), []);
    assert_eq!(marks(), [mark(51); 2]);
    assert_eq!(of(mark(52), &[mark(51), mark(52)], claim(&list, None)), []);
    assert_eq!(marks(), [mark(52); 2]);
    assert_eq!(of(mark(51), &[], release(&list)), []);
    assert_eq!(marks(), [mark(52); 2]);
    assert_eq!(of(mark(52), &[], release(&list)), []);
    // One that an older version has added.
    assert_eq!(of(Mark::Unnamed, &[], claim(&list, None)), []);
    assert_eq!(marks(), [Mark::Unnamed; 2]);
    assert_eq!(of(mark(51), &[], claim(&list, Some(300))), []);
    assert_eq!(marks(), [mark(51); 2]);
    assert_eq!(of(Mark::Unnamed, &[], release(&list)), []);
    assert_eq!(marks(), [mark(51); 2]);
}

fn a_claim_survives_a_changed_prefix_length() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    for list in [["192.0.2.10/24", "2001:db8::10/64"], ["192.0.2.10/32", "2001:db8::10/128"]] {
        assert_eq!(job(&mut worker, "left", claim(&list, Some(30))), []);
        assert_eq!(marked("left"), ["192.0.2.10/32", "2001:db8::10/128"]);
    }
    assert_eq!(job(&mut worker, "left", release(&["192.0.2.10/28", "2001:db8::10"])), []);
    assert_eq!(marked("left"), [""; 0], "whatever the prefix length it was claimed with");
}

fn a_prefix_brings_a_route_and_takes_nothing_from_the_host() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    fs::write("/proc/sys/net/ipv4/conf/left/promote_secondaries", "0").unwrap();
    let state = || {
        let mut own: Vec<String> =
            present("left").iter().map(|found| format!("{:?}", found.address())).collect();
        own.sort();
        let way = output("ip", "route get 192.0.2.2") + &output("ip", "-6 route get 2001:db8::2");
        (own, output("ip", "route") + &output("ip", "-6 route"), way)
    };
    let leads = |to: &str| {
        let way = Command::new("ip").args(["route", "get", to]).output().unwrap();
        String::from_utf8(way.stdout).unwrap().contains("dev left")
    };
    let before = state();
    let own = ["192.0.2.10/24", "2001:db8::10/64"];
    let other = ["198.51.100.10/24", "198.51.100.11/24", "2001:db8:7::10/64", "2001:db8:7::11/64"];
    let list = [&own[..], &other[..]].concat();
    let there = ["198.51.100.77", "2001:db8:7::77"];
    assert!(!there.iter().any(|to| leads(to)));
    assert_eq!(job(&mut worker, "left", claim(&list, Some(30))), []);
    assert!(there.iter().all(|to| leads(to)));
    assert_eq!(state().2, before.2, "its own route goes first");
    // With another prefix length than /32 ours would be the primary one now.
    ip("addr del 192.0.2.1/24 dev left");
    assert!(leads("192.0.2.77"));
    ip("addr add 192.0.2.1/24 dev left");
    // One of two in a subnet goes.
    assert_eq!(job(&mut worker, "left", release(&[other[0], other[2]])), []);
    assert!(there.iter().all(|to| leads(to)));
    // What another program removes comes back with the next renewal.
    ip("route del 198.51.100.0/24");
    ip("-6 route del 2001:db8:7::/64");
    assert!(!there.iter().any(|to| leads(to)));
    let rest = [&own[..], &[other[1], other[3]]].concat();
    assert_eq!(job(&mut worker, "left", renew(&rest, 30)), []);
    assert!(there.iter().all(|to| leads(to)));
    assert_eq!(job(&mut worker, "left", release(&rest)), []);
    assert_eq!(state(), before);
    // Without the daemon they end with the lease.
    assert_eq!(job(&mut worker, "left", claim(&list, Some(1))), []);
    assert!(there.iter().all(|to| leads(to)));
    eventually("the end of the lease", || !there.iter().any(|to| leads(to)));
    assert_eq!(state().2, before.2);
    assert_eq!(lifetime("left", "2001:db8::1"), FOR_EVER);
}

fn a_wrong_absent_hint_is_verified() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    ip("addr add 192.0.2.11/32 dev left");
    assert_eq!(job(&mut worker, "left", claim(&["192.0.2.12"], Some(300))), []);
    let list = addresses(&["192.0.2.10", "192.0.2.11", "192.0.2.12"]);
    let operation = Operation::Claim { lifetime: Some(300), absent: true };
    let failures = job(&mut worker, "left", (list.clone(), operation));
    assert_eq!(failures, [(list[1], AddressError::AlreadyThere(Mark::None))]);
    assert_eq!(marked("left"), ["192.0.2.12/32", "192.0.2.10/32"]);
}

fn a_large_claim_reports_its_parts_and_renewals_are_filtered() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    let many: Arc<[Address]> =
        (0..300_u32).map(|n| Address::host(Ipv4Addr::from_bits(0x0a00_0001 + n).into())).collect();
    let operation = Operation::Claim { lifetime: Some(300), absent: true };
    submit(&worker, 7, index("left"), (many.clone(), operation));
    let (mut next, mut over) = (0, None);
    eventually("the claim", || {
        for report in worker.progress() {
            match report {
                Progress::Claimed { ticket: 7, part } => {
                    assert_eq!(part.start, next);
                    next = part.end;
                }
                Progress::Claimed { .. } => panic!("there is no such job"),
                Progress::Finished(done) => over = Some(done),
            }
        }
        over.is_some()
    });
    assert_eq!(over.unwrap().failures, []);
    assert!((1..300).contains(&next), "all but the last part: {next}");

    let events = Monitor::open().unwrap();
    events.ignore_renewals(worker.renewal_port()).unwrap();
    let mut follower = Follower::with(events, &["left"]);
    follower.until("the picture", |follower| follower.addresses("left").len() >= 300);
    let not_after = boottime() + Duration::from_secs(60);
    let operation = Operation::Renew { lifetime: 600, not_after, intact: true };
    assert_eq!(job(&mut worker, "left", (many.clone(), operation)), []);
    assert!(!readable(&follower.events, Duration::from_millis(20)), "an echo");
    ip("addr add 192.0.2.99/32 dev left");
    follower.until("what others add", |follower| {
        follower.addresses("left").contains(&"192.0.2.99/32".to_owned())
    });
    assert_eq!(job(&mut worker, "left", (many, Operation::Release)), []);
}

fn thousands_of_addresses_are_claimed_in_one_job() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    let many: Arc<[Address]> = (0..1000_u32)
        .map(|n| Ipv4Addr::from_bits(0x0a00_0001 + n).into())
        .chain(
            (0..300_u128).map(|n| Ipv6Addr::from_bits((0x2001_0db8 << 96) + 0x1_0000 + n).into()),
        )
        .map(Address::host)
        .collect();
    // One in the middle belongs to the host.
    ip("addr add 10.0.1.200/8 dev left");
    let foreign = Address::host(address("10.0.1.200"));

    let operation = Operation::Claim { lifetime: Some(300), absent: false };
    let failures = job(&mut worker, "left", (many.clone(), operation));
    assert_eq!(failures, [(foreign, AddressError::AlreadyThere(Mark::None))]);
    assert_eq!(marked("left").len(), 1299);
    let not_after = boottime() + Duration::from_secs(60);
    let operation = Operation::Renew { lifetime: 600, not_after, intact: false };
    let failures = job(&mut worker, "left", (many.clone(), operation));
    assert_eq!(failures, [(foreign, AddressError::AlreadyThere(Mark::None))]);
    assert!(lifetime("left", "10.0.3.1") > 300 && lifetime("left", "2001:db8::1:12b") > 300);
    assert_eq!(job(&mut worker, "left", (many, Operation::Release)), []);
    assert_eq!(marked("left"), [""; 0]);
    assert_eq!(lifetime("left", "10.0.1.200"), FOR_EVER);
}

fn a_failed_job_reports_the_reason() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    let list = ["192.0.2.10", "2001:db8::10"];
    let no_device: Vec<_> = addresses(&list).iter().map(|a| (*a, AddressError::NoDevice)).collect();
    for (operation, failures) in [
        (claim(&list, None), no_device.clone()),
        (renew(&list, 5), no_device),
        (release(&list), vec![]),
    ] {
        submit(&worker, 1, 4711, operation);
        assert_eq!(wait_for(&mut worker, 1).failures, failures);
    }

    fs::write("/proc/sys/net/ipv6/conf/left/disable_ipv6", "1").unwrap();
    let failures = job(&mut worker, "left", claim(&list, None));
    assert!(
        matches!(failures[..], [(Address { ip: IpAddr::V6(_), .. }, AddressError::Os { .. })]),
        "{failures:?}"
    );
    assert_eq!(marked("left"), ["192.0.2.10/32"]);
    let failures = job(&mut worker, "left", claim(&["192.0.2.11"], Some(0)));
    assert!(
        matches!(failures[..], [(_, AddressError::Os { errno: libc::EINVAL, .. })]),
        "{failures:?}"
    );
    assert_ne!(failures[0].1.to_string(), "");

    // Jobs run in order, and each is reported.
    for ticket in 0..50 {
        let operation = if ticket % 2 == 0 { release(&list) } else { claim(&list[..1], Some(9)) };
        submit(&worker, ticket, index("left"), operation);
    }
    let mut tickets = Vec::new();
    eventually("all reports", || {
        tickets.extend(worker.progress().filter_map(Progress::outcome).map(|done| done.ticket));
        tickets.len() == 50
    });
    assert!(tickets.is_sorted());
    assert_eq!(marked("left"), ["192.0.2.10/32"]);
}

// ---- interfaces ----

struct Follower {
    events: Monitor,
    links: Links,
    changes: Vec<LinkChange>,
    resyncs: usize,
    synced: usize,
}

impl Follower {
    fn of(names: &[&str]) -> Self {
        Self::with(Monitor::open().unwrap(), names)
    }

    fn with(events: Monitor, names: &[&str]) -> Self {
        let mut links = Links::default();
        links.watch(names.iter().map(|name| Arc::from(*name)));
        // The first dump has been requested.
        assert!(links.incomplete());
        let mut new = Follower { events, links, changes: Vec::new(), resyncs: 0, synced: 0 };
        new.until("the first picture", |new| new.synced == 1);
        new
    }

    fn read(&mut self) {
        let Follower { events, links, changes, resyncs, synced } = self;
        events
            .read(|event| {
                *resyncs += usize::from(event == NetEvent::Resync);
                *synced += usize::from(event == NetEvent::Synced);
                links.apply(event, |change| changes.push(change));
            })
            .unwrap();
        if links.incomplete() {
            events.dump().unwrap();
        }
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        eventually(what, || {
            self.read();
            holds(self)
        });
    }

    /// Waits for a change that is `wanted`, and discards all changes up to it.
    fn until_reported(&mut self, wanted: impl Fn(&LinkChange) -> bool) -> LinkChange {
        let mut told = None;
        self.until("a change", |follower| {
            if let Some(place) = follower.changes.iter().position(&wanted) {
                told = follower.changes.drain(..=place).next_back();
            }
            told.is_some()
        });
        told.unwrap()
    }

    fn until_appeared(&mut self, wanted: &str, at: u32) {
        self.until_reported(|change| {
            matches!(change, LinkChange::Appeared { name, link } if **name == *wanted && link.index == at)
        });
    }

    fn until_gone(&mut self, wanted: &str, renamed: bool) {
        let gone = LinkChange::Gone { name: wanted.into(), renamed };
        self.until_reported(|change| *change == gone);
    }

    fn until_up(&mut self, wanted: bool) {
        self.until("up or down", |follower| {
            follower.links.link("uplink").is_some_and(|link| link.up == wanted)
        });
    }

    fn addresses(&self, name: &str) -> Vec<String> {
        self.links.addresses(name).iter().map(|a| format!("{}/{}", a.ip, a.prefix)).collect()
    }
}

fn an_interface_is_followed_by_its_name() {
    new_namespace();
    let mut follower = Follower::of(&["uplink", "lo", "alias"]);
    assert!(follower.links.link("lo").unwrap().loopback);
    assert_eq!(follower.links.link("lo").unwrap().mac, None);
    assert_eq!(follower.links.link("uplink"), None);
    assert_eq!(follower.addresses("lo"), ["127.0.0.1/8", "::1/128"]);

    // An interface that appears late.
    ip("link add uplink address 02:00:00:00:00:01 type veth peer name other");
    let first = index("uplink");
    follower.until_appeared("uplink", first);
    let link = follower.links.link("uplink").unwrap();
    assert_eq!((link.mac, link.up, link.loopback), (Some(LEFT_MAC), false, false));
    ip("link set other up");
    ip("link set uplink up");
    follower.until_up(true);

    // No carrier, set down, another MAC address.
    ip("link set other down");
    follower.until_up(false);
    ip("link set other up");
    follower.until_up(true);
    ip("link set uplink down");
    follower.until_up(false);
    ip("link set uplink address 02:00:00:00:00:02");
    follower.until("the MAC", |follower| {
        follower.links.link("uplink").is_some_and(|link| link.mac == Some(RIGHT_MAC))
    });

    // Renamed, with an address that was reported before; the other takes its name.
    ip("link set other down");
    ip("addr add 192.0.2.2/24 dev other");
    follower.read();
    ip("link set uplink name former");
    follower.until_gone("uplink", true);
    assert_eq!(follower.addresses("uplink"), [""; 0]);
    ip("link set other name uplink");
    let second = index("uplink");
    follower.until_appeared("uplink", second);
    follower.until("its address", |follower| follower.addresses("uplink") == ["192.0.2.2/24"]);

    // By an alternative name: the kernel does not report a new one while the interface is down.
    ip("link set former up");
    ip("link property add dev former altname alias");
    follower.until_appeared("alias", first);
    assert_eq!(follower.links.link("alias").unwrap().name, "former");
    ip("link property del dev former altname alias");
    follower.until_gone("alias", true);

    // Deleted and created again.
    ip("link delete uplink");
    follower.until_gone("uplink", false);
    ip("link add uplink type veth peer name other");
    let third = index("uplink");
    assert!(third != first && third != second);
    follower.until_appeared("uplink", third);

    // Another name is watched from now on.
    ip("addr add 192.0.2.3/24 dev other");
    follower.read();
    follower.links.watch(["other".into(), "uplink".into()]);
    follower.until_appeared("other", index("other"));
    assert_eq!(follower.addresses("other"), ["192.0.2.3/24"]);
    assert_eq!(follower.links.link("uplink").map(|link| link.index), Some(third));
    assert_eq!(follower.links.link("lo"), None);
}

fn addresses_come_and_go() {
    let _lab = VethPair::new();
    let mut follower = Follower::of(&["left"]);
    let mut worker = Worker::start().unwrap();
    follower.changes.clear();
    let vip = address("192.0.2.10");
    let name: Arc<str> = "left".into();

    assert_eq!(job(&mut worker, "left", claim(&["192.0.2.10", "2001:db8::10"], Some(60))), []);
    follower.until("the claim", |follower| {
        follower.links.addresses("left").iter().filter(|found| found.mark != Mark::None).count()
            == 2
    });
    assert!(follower.changes.iter().all(|change| matches!(change, LinkChange::Addresses { .. })));
    follower.changes.clear();

    // A renewal is not reported.
    assert_eq!(job(&mut worker, "left", renew(&["192.0.2.10", "2001:db8::10"], 90)), []);
    // Removed and added again by another program.
    ip("addr del 192.0.2.10/32 dev left");
    let told = follower.until_reported(|_| true);
    assert_eq!(told, LinkChange::Lost { name: name.clone(), ip: vip });
    ip("addr add 192.0.2.10/32 dev left");
    follower
        .until_reported(|change| *change == LinkChange::Foreign { name: name.clone(), ip: vip });
    // Replaced by another program, without the mark.
    let v6 = address("2001:db8::10");
    ip("addr replace 2001:db8::10/128 dev left");
    follower.until_reported(|change| *change == LinkChange::Lost { name: name.clone(), ip: v6 });
    follower.until_reported(|change| *change == LinkChange::Foreign { name: name.clone(), ip: v6 });
    // In the order of the kernel, the primary address comes first.
    assert_eq!(follower.addresses("left")[0], "192.0.2.1/24");
    ip("addr flush dev left");
    follower.until("nothing", |follower| follower.addresses("left").is_empty());

    // An address is usable only after duplicate address detection.
    fs::write("/proc/sys/net/ipv6/conf/left/accept_dad", "1").unwrap();
    fs::write("/proc/sys/net/ipv6/conf/left/dad_transmits", "1").unwrap();
    ip("addr add 2001:db8::99/64 dev left");
    follower.until("a usable address", |follower| {
        follower.links.addresses("left").iter().any(|found| found.link_address().sendable())
    });
}

fn a_bridge_port_that_leaves_is_not_gone() {
    let _lab = VethPair::new();
    ip("link add bridge type bridge");
    let mut follower = Follower::of(&["left"]);
    ip("link set left master bridge");
    ip("link set left nomaster");
    ip("addr add 192.0.2.99/32 dev left");
    follower.until("what came last", |follower| {
        follower.addresses("left").contains(&"192.0.2.99/32".to_owned())
    });
    let gone = follower.changes.iter().filter(|change| matches!(change, LinkChange::Gone { .. }));
    assert_eq!(gone.count(), 0);
}

/// As a process with CAP_NET_ADMIN in the namespace may send them.
fn netlink_messages_of_other_processes_are_dropped() {
    let _lab = VethPair::new();
    let worker = Worker::start().unwrap();
    let mut follower = Follower::of(&["left"]);
    follower.changes.clear();
    let before = (follower.addresses("left"), follower.resyncs);
    // The socket that is subscribed to links and addresses.
    let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let columns = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let monitor = columns.into_iter().find(|columns| columns[3] == "00000111").unwrap();
    let to = SocketAddr::new(monitor[2].parse().unwrap(), 0);
    let mut sender = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
    sender.bind_auto().unwrap();

    let address = |kind: u16, ip: [u8; 4], prefix: u8| {
        let mut body = vec![libc::AF_INET as u8, prefix, 0, 0];
        body.extend(index("left").to_ne_bytes());
        body.extend([8, 0, 2, 0]);
        body.extend(ip);
        message_of(kind, &body)
    };
    let mut link = vec![0; 16];
    link[4..8].copy_from_slice(&index("left").to_ne_bytes());
    let forged = [
        address(libc::RTM_DELADDR, [192, 0, 2, 1], 24),
        address(libc::RTM_NEWADDR, [192, 0, 2, 66], 32),
        message_of(libc::RTM_DELLINK, &link),
        // Larger than the buffer.
        message_of(libc::RTM_NEWADDR, &[0; 100_000]),
    ];
    for forged in &forged {
        sender.send_to(forged, &to, 0).unwrap();
        let refused = sender.send_to(forged, &SocketAddr::new(worker.renewal_port(), 0), 0);
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
    }
    ip("addr add 192.0.2.99/32 dev left");
    follower.until("what came last", |follower| {
        follower.addresses("left").contains(&"192.0.2.99/32".to_owned())
    });
    let name: Arc<str> = "left".into();
    let added = [
        LinkChange::Foreign { name: name.clone(), ip: "192.0.2.99".parse().unwrap() },
        LinkChange::Addresses { name },
    ];
    assert_eq!(follower.changes, added);
    let mut after = (follower.addresses("left"), follower.resyncs);
    after.0.retain(|address| address != "192.0.2.99/32");
    assert_eq!(after, before);
}

/// A netlink message with this payload.
fn message_of(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(payload);
    bytes
}

fn after_an_overflow_the_state_is_right() {
    let _lab = VethPair::new();
    let mut worker = Worker::start().unwrap();
    assert_eq!(job(&mut worker, "left", claim(&["192.0.2.10", "192.0.2.11"], None)), []);
    ip("link add doomed type veth peer name doomed2");
    ip("link add first type veth peer name first2");
    let events = Monitor::with_receive_buffer(1).unwrap();
    let mut follower = Follower::with(events, &["left", "doomed", "late", "first"]);
    follower.changes.clear();
    let before = follower.resyncs;

    // All of this happens while the socket is not read.
    let many: Arc<[Address]> =
        (0..1000_u32).map(|n| Address::host(Ipv4Addr::from_bits(0x0a00_0001 + n).into())).collect();
    let operation = Operation::Claim { lifetime: None, absent: false };
    assert_eq!(job(&mut worker, "left", (many.clone(), operation)), []);
    ip("addr del 192.0.2.10/32 dev left");
    ip("addr add 192.0.2.12/32 dev left");
    ip("link delete doomed");
    ip("link set first name second");
    ip("link add late type veth peer name late2");
    assert_eq!(job(&mut worker, "left", (many, Operation::Release)), []);
    let synced = follower.synced;
    follower.until("everything anew", |follower| follower.synced > synced);
    assert!(follower.resyncs > before);

    let left: Arc<str> = "left".into();
    for change in [
        LinkChange::Lost { name: left.clone(), ip: address("192.0.2.10") },
        LinkChange::Foreign { name: left.clone(), ip: address("192.0.2.12") },
        LinkChange::Addresses { name: left },
        LinkChange::Gone { name: "doomed".into(), renamed: false },
        LinkChange::Gone { name: "first".into(), renamed: true },
    ] {
        assert!(follower.changes.contains(&change), "{change:?} in {:?}", follower.changes);
    }
    follower.until_appeared("late", index("late"));
    assert_eq!(follower.links.addresses("left"), present("left"));
    assert_eq!(marked("left"), ["192.0.2.11/32"]);

    // Later changes are reported as usual.
    ip("addr del 192.0.2.12/32 dev left");
    follower.until("what came after", |follower| {
        !follower.addresses("left").contains(&"192.0.2.12/32".to_owned())
    });
}

// ---- neighbours ----

fn neighbours(name: &str, mac: [u8; 6]) -> NeighbourSocket {
    NeighbourSocket::open(index(name), Some(mac)).unwrap()
}

fn is_announcement(frame: &[u8]) -> bool {
    frame[12..14] == [8, 6]
        || (frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 136)
}

/// One's complement sum over pseudo-header and message; 0xffff if the checksum is right (RFC 1071).
fn icmpv6_sum(frame: &[u8]) -> u16 {
    let length = [0, 0, frame[18], frame[19], 0, 0, 0, 58];
    let words = frame[22..54].chunks(2).chain(length.chunks(2)).chain(frame[54..].chunks(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn announcements_are_encoded_exactly() {
    let lab = VethPair::new();
    let capture = lab.there(|| FrameCapture::on("right"));
    let ours = neighbours("left", LEFT_MAC);
    let both = [address("192.0.2.10"), address("2001:db8::10")];
    ours.announce(both).unwrap();
    let frames = capture.frames(2, is_announcement);
    #[rustfmt::skip]
    assert_eq!(frames[0], [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6,
        0, 1, 8, 0, 6, 4, 0, 1,
        2, 0, 0, 0, 0, 1, 192, 0, 2, 10,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 192, 0, 2, 10,
    ]);
    #[rustfmt::skip]
    let mut advertisement = [
        0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
        0x60, 0, 0, 0, 0, 32, 58, 255,
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        136, 0, frames[1][56], frames[1][57], 0x20, 0, 0, 0,
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        2, 1, 2, 0, 0, 0, 0, 1,
    ];
    assert_eq!(frames[1], advertisement);
    assert_eq!(icmpv6_sum(&frames[1]), 0xffff);

    fs::write("/proc/sys/net/ipv6/conf/left/forwarding", "1").unwrap();
    ours.announce(both[1..].iter().copied()).unwrap();
    let frame = capture.frames(1, |frame| is_announcement(frame) && frame[37] == 0x10).remove(0);
    advertisement[56..58].copy_from_slice(&frame[56..58]);
    advertisement[58] = 0xa0;
    assert_eq!(frame, advertisement, "a router says that it is one");
    assert_eq!(icmpv6_sum(&frame), 0xffff);

    let many: Vec<IpAddr> = (0..300).map(|n| Ipv4Addr::from_bits(0x0a00_0001 + n).into()).collect();
    ours.announce(many.iter().copied()).unwrap();
    let frames = capture.frames(300, |frame| is_announcement(frame) && frame[28] == 10);
    let announced: Vec<IpAddr> =
        frames.iter().map(|f| Ipv4Addr::new(f[28], f[29], f[30], f[31]).into()).collect();
    assert_eq!(announced, many);

    // Interfaces without neighbours, or that are down.
    let mut loopback = NeighbourSocket::open(index("lo"), None).unwrap();
    loopback.announce(both).unwrap();
    loopback.watch(&both).unwrap();
    assert_eq!(loopback.receive(|_| panic!("a neighbour on loopback")).unwrap(), 0);
    ip("link set left down");
    ours.announce(both).unwrap_err();
}

fn neighbours_accept_announcements() {
    let lab = VethPair::new();
    let both = ["192.0.2.10", "2001:db8::10"];
    lab.there(|| {
        fs::write("/proc/sys/net/ipv4/neigh/right/locktime", "0").unwrap();
        both.iter().for_each(|it| {
            ip(&format!("neigh add {it} lladdr 02:00:00:00:00:99 dev right nud stale"))
        });
    });
    neighbours("left", LEFT_MAC).announce(both.map(address)).unwrap();
    eventually("both entries change", || {
        let table = lab.there(|| output("ip", "neigh show dev right"));
        both.iter().all(|it| table.contains(&format!("{it} lladdr 02:00:00:00:00:01")))
    });
}

fn other_announcers_are_seen_and_nothing_else() {
    let lab = VethPair::new();
    let mut ours = neighbours("left", LEFT_MAC);
    let (theirs, raw) = lab.there(|| (neighbours("right", RIGHT_MAC), FrameCapture::on("right")));
    let v4 = address("192.0.2.10");
    let v6 = address("2001:db8::10");
    let end = address("192.0.2.254");
    let many: Vec<IpAddr> =
        (0..3000).map(|n| Ipv4Addr::from_bits(0x0a00_0001 + n).into()).collect();
    let few: Vec<IpAddr> = many.iter().copied().take(900).collect();
    let same_end = address("2001:db8:1::10");
    let with = |list: &[IpAddr], more: &[IpAddr]| [list, more].concat();

    // The watched addresses, and those of them that are announced, in order.
    let cases: [(Vec<IpAddr>, Vec<IpAddr>); 6] = [
        (vec![v4, end], vec![v4, end]),
        (vec![v6, end], vec![v6, end]),
        (vec![v4, v6, end], vec![v4, v6, end]),
        (with(&few, &[v4, v6, end]), vec![many[0], many[250], many[899], v4, v6, end]),
        (with(&many, &[v4, v6, end]), vec![many[0], many[250], many[899], many[2999], v4, v6, end]),
        (vec![end], vec![end]),
    ];
    for (watched, expected) in cases {
        ours.watch(&watched).unwrap();
        // Discard what is left of the case before.
        ours.receive(|_| {}).unwrap();
        ours.announce([v4, v6]).unwrap();
        theirs.announce([many[0], many[250], many[899], many[2999], v4, same_end, v6]).unwrap();
        // Our own announcement that has come back by a loop, and one of another VLAN on the wire.
        let mut own = vec![0xff; 6];
        own.extend(RIGHT_MAC);
        own.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 10, 0xff, 0xff]);
        own.extend([0xff, 0xff, 0xff, 0xff, 192, 0, 2, 10]);
        raw.send(&own);
        let mut tagged = own.clone();
        tagged[22..28].copy_from_slice(&RIGHT_MAC);
        tagged.splice(12..12, [0x81, 0, 0, 100]);
        raw.send(&tagged);
        theirs.announce([end]).unwrap();

        let mut sightings = Vec::new();
        eventually("the last announcement", || {
            ours.receive(|sighting| sightings.push(sighting)).unwrap();
            sightings.last().is_some_and(|last: &ForeignAnnouncement| last.address == end)
        });
        let expected: Vec<ForeignAnnouncement> = expected
            .into_iter()
            .map(|address| ForeignAnnouncement { address, mac: RIGHT_MAC })
            .collect();
        assert_eq!(sightings, expected, "watching {}", watched.len());
    }

    ours.watch(&[]).unwrap();
    theirs.announce([v4, v6, end]).unwrap();
    raw.send(&[0; 60]);
    assert!(!readable(&ours, Duration::from_millis(20)));

    // The socket works again when the link has come back.
    ours.watch(&[v4]).unwrap();
    ip("link set left down");
    ours.receive(|_| panic!("nobody is there")).unwrap();
    ip("link set left up");
    eventually("a sighting", || {
        let mut seen = false;
        let _ = theirs.announce([v4]);
        ours.receive(|_| seen = true).unwrap();
        seen
    });
}

// ---- readiness ----

fn readiness_reaches_tokio() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let clock = Clock::start();
        let timer = Timer::new().unwrap();
        let readiness = sys::Readiness::of(&timer, tokio::io::Interest::READABLE).unwrap();
        for millis in [5, 1, 10] {
            let deadline = clock.now() + Duration::from_millis(millis);
            timer.set(&clock, Some(deadline)).unwrap();
            readiness.readable().await.unwrap().clear_ready();
            assert!(clock.now() >= deadline);
            assert!(timer.acknowledge());
        }
    });
}
