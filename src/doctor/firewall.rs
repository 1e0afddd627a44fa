//! What the packet filter of this host does to adverts: the nftables rules, those of `iptables-nft`
//! included, played through for one packet. What cannot be known of a rule (a rate, a mark, an
//! extension of iptables) may match or not, so a verdict is certain or not.

use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;

use crate::vrrp::Family;

/// A verdict of a rule that a chain may jump to this deep.
const DEEPEST: u8 = 16;

/// The way of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To us.
    In,
    /// From us.
    Out,
}

/// An advert, as far as a packet filter looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its way.
    pub way: Way,
    /// The interface it comes or goes by.
    pub interface: &'a str,
    /// Who sends it; `None`: somebody.
    pub source: Option<IpAddr>,
    /// The group or a host.
    pub destination: IpAddr,
}

/// The rules of this host.
#[derive(Clone, Debug)]
pub struct Ruleset {
    objects: Vec<Value>,
}

/// What certainly stops a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Family, table and chain, as `nft` wants them.
    pub chain: String,
    /// What stops it there.
    pub by: String,
}

/// What may become of a packet in a chain.
#[derive(Clone, Debug, Default)]
struct Fate {
    accepted: bool,
    /// By which rule, or which policy.
    dropped: Option<String>,
    /// It may come to the end of the chain without a verdict.
    passes: bool,
}

/// Whether a rule holds for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Perhaps,
}

impl Holds {
    fn and(self, other: Holds) -> Holds {
        match (self, other) {
            (Holds::No, _) | (_, Holds::No) => Holds::No,
            (Holds::Yes, Holds::Yes) => Holds::Yes,
            (Holds::Perhaps, Holds::Yes | Holds::Perhaps) | (Holds::Yes, Holds::Perhaps) => {
                Holds::Perhaps
            }
        }
    }

    fn or(self, other: Holds) -> Holds {
        self.not().and(other.not()).not()
    }

    fn not(self) -> Holds {
        match self {
            Holds::Yes => Holds::No,
            Holds::No => Holds::Yes,
            Holds::Perhaps => Holds::Perhaps,
        }
    }

    fn of(holds: bool) -> Holds {
        if holds { Holds::Yes } else { Holds::No }
    }
}

impl Ruleset {
    /// Asks `nft` for the rules.
    ///
    /// # Errors
    /// Why they cannot be known, as a sentence.
    pub fn read() -> Result<Self, String> {
        let output = Command::new("nft").args(["-j", "list", "ruleset"]).output();
        let output = output.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "there is no program nft".to_owned(),
            _ => format!("nft cannot be run: {error}"),
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or("it does not say why").trim();
            return Err(format!("nft -j list ruleset: {said}"));
        }
        Self::parse(&output.stdout)
    }

    /// What `nft -j list ruleset` prints.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let unknown = || "nft -j list ruleset prints what is not understood".to_owned();
        let all: Value = serde_json::from_slice(json).map_err(|_| unknown())?;
        let objects = all.get("nftables").and_then(Value::as_array).ok_or_else(unknown)?;
        Ok(Ruleset { objects: objects.clone() })
    }

    /// The first chain that lets no such packet pass, whatever else is so.
    pub fn blocks(&self, packet: &Packet<'_>) -> Option<Blocked> {
        let mut chains: Vec<&Value> = self
            .all("chain")
            .filter(|chain| self.concerns(chain, packet) && chain.get("hook").is_some())
            .collect();
        chains.sort_by_key(|chain| {
            let late = ["input", "postrouting"].contains(&text(chain, "hook"));
            (late, chain.get("prio").and_then(Value::as_i64).unwrap_or(0))
        });
        chains.into_iter().find_map(|chain| {
            let fate = self.base(chain, packet);
            let by = fate.dropped.filter(|_| !fate.accepted)?;
            let chain = ["family", "table", "name"].map(|key| text(chain, key)).join(" ");
            Some(Blocked { chain, by })
        })
    }

    fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter_map(move |object| object.get(kind))
    }

    fn concerns(&self, chain: &Value, packet: &Packet<'_>) -> bool {
        let family = match Family::of(packet.destination) {
            Family::V4 => ["ip", "inet"],
            Family::V6 => ["ip6", "inet"],
        };
        let hook = text(chain, "hook");
        let on_the_device = text(chain, "dev") == packet.interface;
        match (text(chain, "family"), packet.way) {
            ("netdev" | "inet", Way::In) if hook == "ingress" => on_the_device,
            ("netdev", Way::Out) => hook == "egress" && on_the_device,
            (of, Way::In) => family.contains(&of) && ["prerouting", "input"].contains(&hook),
            (of, Way::Out) => family.contains(&of) && ["output", "postrouting"].contains(&hook),
        }
    }

    fn base(&self, chain: &Value, packet: &Packet<'_>) -> Fate {
        let place = [text(chain, "family"), text(chain, "table"), text(chain, "name")];
        let mut fate = self.play(place, packet, 0);
        if fate.passes {
            if text(chain, "policy") == "drop" {
                fate.dropped.get_or_insert_with(|| "its policy is drop".to_owned());
            } else {
                fate.accepted = true;
            }
        }
        fate
    }

    fn play(&self, place: [&str; 3], packet: &Packet<'_>, depth: u8) -> Fate {
        let mut fate = Fate { passes: true, ..Fate::default() };
        if depth > DEEPEST {
            fate.accepted = true;
            return fate;
        }
        let here = |rule: &&Value| {
            [text(rule, "family"), text(rule, "table"), text(rule, "chain")] == place
        };
        for rule in self.all("rule").filter(here) {
            let Some(parts) = rule.get("expr").and_then(Value::as_array) else { continue };
            let mut holds = Holds::Yes;
            for (kind, part) in parts.iter().filter_map(Value::as_object).flatten() {
                if holds == Holds::No {
                    break;
                }
                let told = self.verdict(kind, part, place, packet, depth);
                let Some(verdict) = told else {
                    holds = holds.and(self.holds(kind, part, place, packet));
                    continue;
                };
                fate.accepted |= verdict.accepted;
                if verdict.dropped.is_some() && fate.dropped.is_none() {
                    fate.dropped = verdict.dropped.map(|_| described(rule));
                }
                if !verdict.passes && holds == Holds::Yes {
                    fate.passes = false;
                    return fate;
                }
            }
        }
        fate
    }

    /// What a part of a rule decides; `None` if it only asks.
    fn verdict(
        &self,
        kind: &str,
        part: &Value,
        [family, table, _]: [&str; 3],
        packet: &Packet<'_>,
        depth: u8,
    ) -> Option<Fate> {
        let stopped = || Fate { dropped: Some(kind.to_owned()), ..Fate::default() };
        match kind {
            "accept" => Some(Fate { accepted: true, ..Fate::default() }),
            "drop" | "reject" => Some(stopped()),
            // Who takes it from the queue may let it pass.
            "queue" => Some(Fate { accepted: true, ..Fate::default() }),
            "return" => Some(Fate { passes: true, ..Fate::default() }),
            "jump" | "goto" => {
                let mut fate = self.play([family, table, text(part, "target")], packet, depth + 1);
                // Behind a goto nothing follows but the policy, which then may drop or accept.
                fate.accepted |= kind == "goto" && fate.passes;
                Some(fate)
            }
            "xt" if text(part, "type") == "target" => match text(part, "name") {
                "REJECT" | "DROP" => Some(stopped()),
                _ => Some(Fate { passes: true, accepted: true, ..Fate::default() }),
            },
            "vmap" => Some(self.mapped(part, [family, table, ""], packet, depth)),
            _ => None,
        }
    }

    fn mapped(&self, map: &Value, place: [&str; 3], packet: &Packet<'_>, depth: u8) -> Fate {
        let mut fate = Fate { passes: true, ..Fate::default() };
        let pairs = map.pointer("/data/set").and_then(Value::as_array);
        let (Some(key), Some(pairs)) = (map.get("key"), pairs) else {
            fate.accepted = true;
            return fate;
        };
        for pair in pairs {
            let (Some(value), Some(Value::Object(told))) = (pair.get(0), pair.get(1)) else {
                continue;
            };
            let holds = self.equals(key, value, place, packet);
            if holds == Holds::No {
                continue;
            }
            for (kind, part) in told {
                let verdict = self.verdict(kind, part, place, packet, depth);
                let Some(verdict) = verdict else { continue };
                fate.accepted |= verdict.accepted;
                fate.dropped = fate.dropped.or(verdict.dropped);
                fate.passes &= verdict.passes || holds != Holds::Yes;
            }
        }
        fate
    }

    fn holds(&self, kind: &str, part: &Value, place: [&str; 3], packet: &Packet<'_>) -> Holds {
        match kind {
            "match" => {
                let (Some(left), Some(right)) = (part.get("left"), part.get("right")) else {
                    return Holds::Perhaps;
                };
                let equals = self.equals(left, right, place, packet);
                match text(part, "op") {
                    "==" | "in" => equals,
                    "!=" => equals.not(),
                    _ => Holds::Perhaps,
                }
            }
            "counter" | "log" | "comment" | "notrack" | "mangle" | "meter" => Holds::Yes,
            "xt" if text(part, "name") == "comment" => Holds::Yes,
            _ => Holds::Perhaps,
        }
    }

    /// Whether what `left` asks of the packet is (one of) `right`.
    fn equals(&self, left: &Value, right: &Value, place: [&str; 3], packet: &Packet<'_>) -> Holds {
        if let Some(list) = members(right) {
            let any = |holds: Holds, one| holds.or(self.equals(left, one, place, packet));
            return list.iter().fold(Holds::No, any);
        }
        if let Some(name) = right.as_str().and_then(|name| name.strip_prefix('@')) {
            let [family, table, _] = place;
            let named = |set: &&Value| {
                [text(set, "family"), text(set, "table"), text(set, "name")]
                    == [family, table, name]
            };
            let Some(set) = self.all("set").find(named) else { return Holds::Perhaps };
            let none = Vec::new();
            let members = set.get("elem").and_then(Value::as_array).unwrap_or(&none);
            let any = |holds: Holds, one| holds.or(self.equals(left, one, place, packet));
            return members.iter().fold(Holds::No, any);
        }
        if let Some(meta) = left.get("meta") {
            return meta_is(text(meta, "key"), right, packet);
        }
        if let Some(payload) = left.get("payload") {
            return payload_is(text(payload, "protocol"), text(payload, "field"), right, packet);
        }
        if left.get("ct").is_some_and(|ct| text(ct, "key") == "state") {
            // An advert is never answered.
            return match right.as_str() {
                Some("new" | "untracked") => Holds::Perhaps,
                Some("established" | "related" | "invalid") => Holds::No,
                Some(_) | None => Holds::Perhaps,
            };
        }
        Holds::Perhaps
    }
}

/// The members of an anonymous set or a list.
fn members(value: &Value) -> Option<&Vec<Value>> {
    value.as_array().or_else(|| value.get("set").and_then(Value::as_array))
}

fn meta_is(key: &str, right: &Value, packet: &Packet<'_>) -> Holds {
    let multicast = packet.destination.is_multicast();
    let interface = |ours: bool| match (ours, right.as_str()) {
        (true, Some(name)) => Holds::of(match name.strip_suffix('*') {
            Some(beginning) => packet.interface.starts_with(beginning),
            None => packet.interface == name,
        }),
        // On its way in a packet has no interface to go out by.
        (false, Some(_)) => Holds::No,
        (_, None) => Holds::Perhaps,
    };
    match key {
        "iif" | "iifname" => interface(packet.way == Way::In),
        "oif" | "oifname" => interface(packet.way == Way::Out),
        "l4proto" => is_vrrp(right),
        "nfproto" => match right.as_str() {
            Some("ipv4") => Holds::of(packet.destination.is_ipv4()),
            Some("ipv6") => Holds::of(packet.destination.is_ipv6()),
            Some(_) | None => Holds::Perhaps,
        },
        "protocol" => match right.as_str() {
            Some("ip") => Holds::of(packet.destination.is_ipv4()),
            Some("ip6") => Holds::of(packet.destination.is_ipv6()),
            Some(_) => Holds::No,
            None => Holds::Perhaps,
        },
        "pkttype" if packet.way == Way::In => match right.as_str() {
            Some("multicast") => Holds::of(multicast),
            Some("host" | "unicast") => Holds::of(!multicast),
            Some("broadcast") => Holds::No,
            Some(_) | None => Holds::Perhaps,
        },
        _ => Holds::Perhaps,
    }
}

fn payload_is(protocol: &str, field: &str, right: &Value, packet: &Packet<'_>) -> Holds {
    let family = match protocol {
        "ip" => Family::V4,
        "ip6" => Family::V6,
        "tcp" | "udp" | "udplite" | "icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "esp" | "ah"
        | "arp" => return Holds::No,
        _ => return Holds::Perhaps,
    };
    if family != Family::of(packet.destination) {
        return Holds::No;
    }
    match field {
        "protocol" | "nexthdr" => is_vrrp(right),
        "daddr" => covers(right, packet.destination),
        "saddr" => match packet.source {
            Some(source) => covers(right, source),
            None => Holds::Perhaps,
        },
        "ttl" | "hoplimit" if packet.destination.is_multicast() => match right.as_u64() {
            Some(ttl) => Holds::of(ttl == 255),
            None => Holds::Perhaps,
        },
        _ => Holds::Perhaps,
    }
}

/// Protocol numbers are printed by the names of /etc/protocols.
fn is_vrrp(right: &Value) -> Holds {
    match (right.as_u64(), right.as_str()) {
        (Some(number), _) => Holds::of(number == 112),
        (_, Some(name)) => Holds::of(["vrrp", "carp", "112"].contains(&name)),
        (None, None) => Holds::Perhaps,
    }
}

fn covers(right: &Value, address: IpAddr) -> Holds {
    let parse = |value: &Value| value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    if let Some(prefix) = right.get("prefix") {
        let length = prefix.get("len").and_then(Value::as_u64);
        return match (prefix.get("addr").and_then(parse), length) {
            (Some(network), Some(length)) => {
                Holds::of(super::kernel::same_network(network, address, length as u8))
            }
            _ => Holds::Perhaps,
        };
    }
    if let Some(range) = right.get("range") {
        return match (range.get(0).and_then(parse), range.get(1).and_then(parse)) {
            (Some(first), Some(last)) => Holds::of(first <= address && address <= last),
            _ => Holds::Perhaps,
        };
    }
    let element = right.pointer("/elem/val").unwrap_or(right);
    parse(element).map_or(Holds::Perhaps, |one| Holds::of(one == address))
}

fn described(rule: &Value) -> String {
    match rule.get("handle").and_then(Value::as_u64) {
        Some(handle) => format!("the rule with handle {handle}"),
        None => "one of its rules".to_owned(),
    }
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn advert(source: Option<&str>) -> Packet<'static> {
        Packet {
            way: Way::In,
            interface: "eth0",
            source: source.map(|source| source.parse().unwrap()),
            destination: "224.0.0.18".parse().unwrap(),
        }
    }

    /// One chain of hook input, and one that it may jump to.
    fn rules(policy: &str, input: &[Value], other: &[Value]) -> Ruleset {
        let mut objects = vec![
            json!({"chain": {"family": "inet", "table": "t", "name": "in", "hook": "input",
                             "type": "filter", "prio": 0, "policy": policy}}),
            json!({"set": {"family": "inet", "table": "t", "name": "peers",
                           "elem": [{"prefix": {"addr": "192.0.2.0", "len": 28}}]}}),
        ];
        for (chain, rules) in [("in", input), ("other", other)] {
            objects.extend(rules.iter().zip(1..).map(|(expr, handle)| {
                json!({"rule": {"family": "inet", "table": "t", "chain": chain,
                                "handle": handle, "expr": expr}})
            }));
        }
        Ruleset { objects }
    }

    fn is(left: Value, right: Value) -> Value {
        json!({"match": {"op": "==", "left": left, "right": right}})
    }

    fn protocol(right: Value) -> Value {
        is(json!({"meta": {"key": "l4proto"}}), right)
    }

    fn source(right: Value) -> Value {
        is(json!({"payload": {"protocol": "ip", "field": "saddr"}}), right)
    }

    #[test]
    fn a_policy_of_drop_stops_what_no_rule_lets_in() {
        let ssh = is(json!({"payload": {"protocol": "tcp", "field": "dport"}}), json!(22));
        let answers = is(json!({"ct": {"key": "state"}}), json!(["established", "related"]));
        let accept = json!({"accept": null});
        let closed = rules("drop", &[json!([answers, accept]), json!([ssh, accept])], &[]);
        let blocked = closed.blocks(&advert(None)).unwrap();
        assert_eq!(blocked.chain, "inet t in");
        assert_eq!(blocked.by, "its policy is drop");
        let open = rules("drop", &[json!([protocol(json!("vrrp")), accept])], &[]);
        assert_eq!(open.blocks(&advert(None)), None);
        assert_eq!(rules("accept", &[], &[]).blocks(&advert(None)), None);
    }

    #[test]
    fn who_sends_matters_where_a_rule_asks() {
        let accept = json!({"accept": null});
        let rule = json!([source(json!("@peers")), protocol(json!(112)), accept]);
        let closed = rules("drop", &[rule], &[]);
        assert_eq!(closed.blocks(&advert(Some("192.0.2.2"))), None);
        assert!(closed.blocks(&advert(Some("192.0.2.99"))).is_some());
        // Somebody may be one of them.
        assert_eq!(closed.blocks(&advert(None)), None);
    }

    #[test]
    fn a_rule_that_nobody_can_know_is_no_certain_verdict() {
        let odd = json!({"limit": {"rate": 5}});
        let drop = json!({"drop": null});
        let perhaps = rules("accept", &[json!([odd, drop])], &[]);
        assert_eq!(perhaps.blocks(&advert(None)), None);
        let certain = rules("accept", &[json!([odd, drop]), json!([drop])], &[]);
        let blocked = certain.blocks(&advert(None)).unwrap();
        assert!(blocked.by.starts_with("the rule with handle "), "{}", blocked.by);
    }

    #[test]
    fn jumps_and_maps_are_followed() {
        let jump = json!([{"jump": {"target": "other"}}]);
        let drop = json!([protocol(json!({"set": ["igmp", "vrrp"]})), {"reject": null}]);
        let blocked =
            rules("accept", std::slice::from_ref(&jump), &[drop]).blocks(&advert(None)).unwrap();
        assert_eq!(blocked.chain, "inet t in");
        let back = rules("accept", std::slice::from_ref(&jump), &[json!([{"return": null}])]);
        assert_eq!(back.blocks(&advert(None)), None);
        let map = json!([{"vmap": {"key": {"meta": {"key": "iifname"}},
                                   "data": {"set": [["lo", {"accept": null}],
                                                    ["eth0", {"drop": null}]]}}}]);
        assert!(rules("accept", &[map], &[]).blocks(&advert(None)).is_some());
        // A chain that jumps to itself ends.
        let endless = rules("accept", std::slice::from_ref(&jump), std::slice::from_ref(&jump));
        assert_eq!(endless.blocks(&advert(None)), None);
    }
}
