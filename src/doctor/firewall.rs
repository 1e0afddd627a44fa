//! Evaluates the nftables rules of this host, those of `iptables-nft` included, for one advert.
//! Whether a rule matches can be unknown (a rate, a mark, an extension of iptables), and so can the
//! verdict.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use super::rule_match::{AdvertPacket, Direction, Match, meta_is, payload_is};
use crate::vrrp::Family;

/// The kernel's limit for nested jumps (`NFT_JUMP_STACK_SIZE`).
const MAX_JUMP_DEPTH: u8 = 16;

/// All objects of `nft -j list ruleset`.
#[derive(Clone, Debug)]
pub(crate) struct Ruleset {
    objects: Vec<Value>,
    /// The places of each chain's rules among the objects.
    rules: BTreeMap<[String; 3], Vec<usize>>,
}

/// Family, table and name of a chain.
type ChainId<'a> = [&'a str; 3];

/// The verdicts of chains for a packet: one that others jump to often is evaluated once.
type Verdicts<'a> = BTreeMap<ChainId<'a>, ChainVerdict>;

/// A rule or policy that certainly drops a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// Family, table and chain, in the syntax of `nft`.
    pub chain: String,
    /// The rule or policy.
    pub by: String,
}

/// The possible results of a chain for a packet.
#[derive(Clone, Debug, Default)]
struct ChainVerdict {
    accepted: bool,
    /// The rule or policy that may drop it.
    dropped: Option<String>,
    /// It may reach the end of the chain without a verdict.
    passes: bool,
}

impl Ruleset {
    /// Reads the rules with `nft`.
    ///
    /// # Errors
    /// Why they cannot be read, as a sentence.
    pub(super) fn read() -> Result<Self, String> {
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

    /// Parses the output of `nft -j list ruleset`.
    ///
    /// # Errors
    /// It has another format.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, String> {
        let unknown = || "nft -j list ruleset prints an unknown format".to_owned();
        let all: Value = serde_json::from_slice(json).map_err(|_| unknown())?;
        let objects = all.get("nftables").and_then(Value::as_array).ok_or_else(unknown)?;
        Ok(Self::of(objects.clone()))
    }

    fn of(objects: Vec<Value>) -> Self {
        let mut rules: BTreeMap<[String; 3], Vec<usize>> = BTreeMap::new();
        for (place, object) in objects.iter().enumerate() {
            if let Some(rule) = object.get("rule") {
                let chain = ["family", "table", "chain"].map(|key| text(rule, key).to_owned());
                rules.entry(chain).or_default().push(place);
            }
        }
        Ruleset { objects, rules }
    }

    /// The first chain that certainly drops the packet.
    pub(crate) fn blocks(&self, packet: &AdvertPacket<'_>) -> Option<Blocked> {
        let mut chains: Vec<&Value> = self
            .all("chain")
            .filter(|chain| self.concerns(chain, packet) && chain.get("hook").is_some())
            .collect();
        chains.sort_by_key(|chain| {
            let late = ["input", "postrouting"].contains(&text(chain, "hook"));
            (late, chain.get("prio").and_then(Value::as_i64).unwrap_or(0))
        });
        let mut known = Verdicts::new();
        chains.into_iter().find_map(|chain| {
            let outcome = self.base(chain, packet, &mut known);
            let by = outcome.dropped.filter(|_| !outcome.accepted)?;
            let chain = ["family", "table", "name"].map(|key| text(chain, key)).join(" ");
            Some(Blocked { chain, by })
        })
    }

    fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter_map(move |object| object.get(kind))
    }

    fn concerns(&self, chain: &Value, packet: &AdvertPacket<'_>) -> bool {
        let family = match Family::of(packet.destination) {
            Family::V4 => ["ip", "inet"],
            Family::V6 => ["ip6", "inet"],
        };
        let hook = text(chain, "hook");
        let on_the_device = text(chain, "dev") == packet.interface;
        match (text(chain, "family"), packet.direction) {
            ("netdev" | "inet", Direction::In) if hook == "ingress" => on_the_device,
            ("netdev", Direction::Out) => hook == "egress" && on_the_device,
            (of, Direction::In) => family.contains(&of) && ["prerouting", "input"].contains(&hook),
            (of, Direction::Out) => {
                family.contains(&of) && ["output", "postrouting"].contains(&hook)
            }
        }
    }

    fn base<'a>(
        &'a self,
        chain: &'a Value,
        packet: &AdvertPacket<'_>,
        known: &mut Verdicts<'a>,
    ) -> ChainVerdict {
        let chain_id = [text(chain, "family"), text(chain, "table"), text(chain, "name")];
        let mut outcome = self.play(chain_id, packet, 0, known);
        if outcome.passes {
            if text(chain, "policy") == "drop" {
                outcome.dropped.get_or_insert_with(|| "the policy (drop)".to_owned());
            } else {
                outcome.accepted = true;
            }
        }
        outcome
    }

    fn play<'a>(
        &'a self,
        chain_id: ChainId<'a>,
        packet: &AdvertPacket<'_>,
        depth: u8,
        known: &mut Verdicts<'a>,
    ) -> ChainVerdict {
        if let Some(verdict) = known.get(&chain_id) {
            return verdict.clone();
        }
        if depth > MAX_JUMP_DEPTH {
            return ChainVerdict { passes: true, accepted: true, dropped: None };
        }
        let verdict = self.evaluate(chain_id, packet, depth, known);
        known.insert(chain_id, verdict.clone());
        verdict
    }

    fn evaluate<'a>(
        &'a self,
        chain_id: ChainId<'a>,
        packet: &AdvertPacket<'_>,
        depth: u8,
        known: &mut Verdicts<'a>,
    ) -> ChainVerdict {
        let mut outcome = ChainVerdict { passes: true, ..ChainVerdict::default() };
        let places = self.rules.get(&chain_id.map(str::to_owned)).into_iter().flatten();
        let rules = places.filter_map(|place| self.objects.get(*place)?.get("rule"));
        for rule in rules {
            let Some(parts) = rule.get("expr").and_then(Value::as_array) else { continue };
            let mut holds = Match::Yes;
            for (kind, part) in parts.iter().filter_map(Value::as_object).flatten() {
                if holds == Match::No {
                    break;
                }
                let verdict = self.verdict(kind, part, chain_id, packet, depth, known);
                let Some(verdict) = verdict else {
                    holds = holds.and(self.holds(kind, part, chain_id, packet));
                    continue;
                };
                outcome.accepted |= verdict.accepted;
                if verdict.dropped.is_some() && outcome.dropped.is_none() {
                    outcome.dropped = verdict.dropped.map(|_| described(rule));
                }
                if !verdict.passes && holds == Match::Yes {
                    outcome.passes = false;
                    return outcome;
                }
            }
        }
        outcome
    }

    /// The verdict of a statement; `None` if it is a match.
    fn verdict<'a>(
        &'a self,
        kind: &str,
        part: &'a Value,
        [family, table, _]: ChainId<'a>,
        packet: &AdvertPacket<'_>,
        depth: u8,
        known: &mut Verdicts<'a>,
    ) -> Option<ChainVerdict> {
        let stopped = || ChainVerdict { dropped: Some(kind.to_owned()), ..ChainVerdict::default() };
        match kind {
            "accept" => Some(ChainVerdict { accepted: true, ..ChainVerdict::default() }),
            "drop" | "reject" => Some(stopped()),
            // The program that reads the queue may accept it.
            "queue" => Some(ChainVerdict { accepted: true, ..ChainVerdict::default() }),
            "return" => Some(ChainVerdict { passes: true, ..ChainVerdict::default() }),
            "jump" | "goto" => {
                let target = [family, table, text(part, "target")];
                let mut outcome = self.play(target, packet, depth + 1, known);
                // After a goto only the policy follows, which may drop or accept.
                outcome.accepted |= kind == "goto" && outcome.passes;
                Some(outcome)
            }
            "xt" if text(part, "type") == "target" => match text(part, "name") {
                "REJECT" | "DROP" => Some(stopped()),
                _ => Some(ChainVerdict { passes: true, accepted: true, ..ChainVerdict::default() }),
            },
            "vmap" => Some(self.mapped(part, [family, table, ""], packet, depth, known)),
            _ => None,
        }
    }

    fn mapped<'a>(
        &'a self,
        map: &'a Value,
        chain_id: ChainId<'a>,
        packet: &AdvertPacket<'_>,
        depth: u8,
        known: &mut Verdicts<'a>,
    ) -> ChainVerdict {
        let mut outcome = ChainVerdict { passes: true, ..ChainVerdict::default() };
        let pairs = map.pointer("/data/set").and_then(Value::as_array);
        let (Some(key), Some(pairs)) = (map.get("key"), pairs) else {
            outcome.accepted = true;
            return outcome;
        };
        for pair in pairs {
            let (Some(value), Some(Value::Object(fields))) = (pair.get(0), pair.get(1)) else {
                continue;
            };
            let holds = self.equals(key, value, chain_id, packet);
            if holds == Match::No {
                continue;
            }
            for (kind, part) in fields {
                let verdict = self.verdict(kind, part, chain_id, packet, depth, known);
                let Some(verdict) = verdict else { continue };
                outcome.accepted |= verdict.accepted;
                outcome.dropped = outcome.dropped.or(verdict.dropped);
                outcome.passes &= verdict.passes || holds != Match::Yes;
            }
        }
        outcome
    }

    fn holds(
        &self,
        kind: &str,
        part: &Value,
        chain_id: ChainId<'_>,
        packet: &AdvertPacket<'_>,
    ) -> Match {
        match kind {
            "match" => {
                let (Some(left), Some(right)) = (part.get("left"), part.get("right")) else {
                    return Match::Perhaps;
                };
                let equals = self.equals(left, right, chain_id, packet);
                match text(part, "op") {
                    "==" | "in" => equals,
                    "!=" => equals.not(),
                    _ => Match::Perhaps,
                }
            }
            "counter" | "log" | "comment" | "notrack" | "mangle" | "meter" => Match::Yes,
            "xt" if text(part, "name") == "comment" => Match::Yes,
            _ => Match::Perhaps,
        }
    }

    /// Whether the field `left` of the packet is (one of) `right`.
    fn equals(
        &self,
        left: &Value,
        right: &Value,
        chain_id: ChainId<'_>,
        packet: &AdvertPacket<'_>,
    ) -> Match {
        if let Some(name) = right.as_str().and_then(|name| name.strip_prefix('@')) {
            let [family, table, _] = chain_id;
            let named = |set: &&Value| {
                [text(set, "family"), text(set, "table"), text(set, "name")]
                    == [family, table, name]
            };
            let Some(set) = self.all("set").find(named) else { return Match::Perhaps };
            let none = Vec::new();
            let members = set.get("elem").and_then(Value::as_array).unwrap_or(&none);
            return any(left, members, packet);
        }
        if let Some(list) = members(right) {
            let holds = |holds: Match, one| holds.or(self.equals(left, one, chain_id, packet));
            return list.iter().fold(Match::No, holds);
        }
        is(left, right, packet)
    }
}

/// Whether a field of the packet is one of these elements of a set. None of them names another set: an
/// interface may be called `@guests`.
fn any(left: &Value, elements: &[Value], packet: &AdvertPacket<'_>) -> Match {
    let one = |right: &Value| match members(right) {
        Some(list) => any(left, list, packet),
        None => is(left, right, packet),
    };
    elements.iter().fold(Match::No, |holds, right| holds.or(one(right)))
}

/// Whether the field `left` of the packet is `right`.
fn is(left: &Value, right: &Value, packet: &AdvertPacket<'_>) -> Match {
    if let Some(meta) = left.get("meta") {
        return meta_is(text(meta, "key"), right, packet);
    }
    if let Some(payload) = left.get("payload") {
        return payload_is(text(payload, "protocol"), text(payload, "field"), right, packet);
    }
    if left.get("ct").is_some_and(|ct| text(ct, "key") == "state") {
        // Adverts have no replies, so no connection is ever established.
        return match right.as_str() {
            Some("new" | "untracked") => Match::Perhaps,
            Some("established" | "related" | "invalid") => Match::No,
            Some(_) | None => Match::Perhaps,
        };
    }
    Match::Perhaps
}

/// The members of an anonymous set or a list.
fn members(value: &Value) -> Option<&Vec<Value>> {
    value.as_array().or_else(|| value.get("set").and_then(Value::as_array))
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

    fn advert(source: Option<&str>) -> AdvertPacket<'static> {
        AdvertPacket {
            direction: Direction::In,
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
        Ruleset::of(objects)
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
        assert_eq!(blocked.by, "the policy (drop)");
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
        // An unknown source may match.
        assert_eq!(closed.blocks(&advert(None)), None);
    }

    #[test]
    fn an_unknown_rule_gives_no_certain_verdict() {
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
        // A chain that jumps to itself does not loop for ever.
        let endless = rules("accept", std::slice::from_ref(&jump), std::slice::from_ref(&jump));
        assert_eq!(endless.blocks(&advert(None)), None);
    }
}
