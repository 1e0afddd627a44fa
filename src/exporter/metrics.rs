//! The [`Status`] as metrics in the formats of Prometheus.
//!
//! Names, labels and units follow Prometheus's conventions: base units, `_total` on counters.
//! Counters start at zero with the daemon. A virtual router has the label `router`, its name on
//! this host; `vipd_router_role` and `vipd_router_info` also have `vrid` and `address`, the first
//! advertised address, which are the same on all hosts: rules over several hosts group by these.

use std::fmt::{Display, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::api::counters::Histogram;
use crate::api::status::{Check, Router, Status};
use crate::vrrp::{Role, Verdict};

/// The format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's text format 0.0.4.
    Text,
}

impl Format {
    /// The format for a scraper that sends this `Accept` header.
    pub(super) fn wanted(accept: &str) -> Format {
        match accept.contains("application/openmetrics-text") {
            true => Format::OpenMetrics,
            false => Format::Text,
        }
    }

    /// The `Content-Type` to send.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All metrics; without a status, only that the daemon does not answer.
pub(crate) fn metrics(status: Option<&Status>, now: SystemTime, format: Format) -> String {
    let mut out = Exposition { text: String::new(), format };
    out.gauge("vipd_up", "Whether the daemon answered.", |up| {
        up.sample(&[], u8::from(status.is_some()));
    });
    out.gauge("vipd_exporter_build_info", "The exporter's own version.", |info| {
        info.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    });
    if let Some(status) = status {
        node(&mut out, status);
        let routers = &status.routers;
        state(&mut out, routers);
        checks(&mut out, routers);
        addresses(&mut out, routers);
        peers(&mut out, routers, now);
        counted(&mut out, routers);
        hooks(&mut out, routers);
    }
    if format == Format::OpenMetrics {
        out.text += "# EOF\n";
    }
    out.text
}

fn node(out: &mut Exposition, status: &Status) {
    out.gauge("vipd_build_info", "The daemon's version.", |info| {
        info.sample(&[("version", &status.daemon.version)], 1);
    });
    out.gauge("vipd_node_info", "The node's name in the configuration.", |info| {
        info.sample(&[("node", &status.node)], 1);
    });
    out.gauge("vipd_start_time_seconds", "When the daemon started, Unix time.", |time| {
        if let Some(at) = unix(&status.daemon.started_at) {
            time.sample(&[], at);
        }
    });
    out.gauge(
        "vipd_drained",
        "Whether the host is drained: it serves only where no other host is fit, if at all.",
        |drained| {
            drained.sample(&[], u8::from(status.drained));
        },
    );
    out.gauge("vipd_stopping", "Whether the daemon is about to end.", |stopping| {
        stopping.sample(&[], u8::from(status.stopping));
    });
    out.counter(
        "vipd_stray_packets_total",
        "Discarded packets for no virtual router of this host.",
        |unmatched| {
            for (reason, count) in &status.stray_discards {
                unmatched.sample(&[("reason", reason)], count);
            }
        },
    );
}

fn state(out: &mut Exposition, routers: &[Router]) {
    out.gauge("vipd_router_info", "What a virtual router is, on this host.", |info| {
        for router in routers {
            let (vrid, version) = (router.vrid.to_string(), router.version.to_string());
            info.sample(
                &[
                    ("router", &router.name),
                    ("interface", &router.interface),
                    ("vrid", &vrid),
                    ("family", &router.family),
                    ("version", &version),
                    ("address", &first_address(router)),
                ],
                1,
            );
        }
    });
    out.gauge("vipd_router_role", "1 for the role that it has, 0 for the others.", |roles| {
        for router in routers {
            let (vrid, address) = (router.vrid.to_string(), first_address(router));
            let one = |role| {
                let labels = [
                    ("router", router.name.as_str()),
                    ("vrid", &vrid),
                    ("address", &address),
                    ("role", role),
                ];
                roles.sample(&labels, u8::from(router.role == role));
            };
            Role::ALL.map(Role::name).into_iter().for_each(one);
        }
    });
    out.gauge("vipd_router_fault", "1 for each reason why it cannot take part.", |faults| {
        for router in routers {
            for why in &router.fault_reasons {
                faults.sample(&[("router", &router.name), ("reason", &why.reason)], 1);
            }
        }
    });
    out.gauge(
        "vipd_router_last_change_timestamp_seconds",
        "When its role last changed, Unix time.",
        |changes| {
            for router in routers {
                let at = router.last_change.as_ref().and_then(|change| unix(&change.at));
                if let Some(at) = at {
                    changes.sample(&[("router", &router.name)], at);
                }
            }
        },
    );
    let each = |out: &mut Exposition, name, help, value: fn(&Router) -> f64| {
        out.gauge(name, help, |family| {
            for router in routers {
                family.sample(&[("router", &router.name)], value(router));
            }
        });
    };
    each(out, "vipd_router_priority", "The configured priority.", |r| r.priority.into());
    each(out, "vipd_router_effective_priority", "The priority in force.", |r| {
        r.effective_priority.into()
    });
    each(
        out,
        "vipd_router_held_back",
        "Whether it was moved away by an operator, and does not come back until resumed.",
        |r| r.held_back.into(),
    );
    each(
        out,
        "vipd_router_degraded",
        "Whether it stays master only as long as no other host is fit, as a check fails.",
        |r| r.degraded.into(),
    );
    each(out, "vipd_router_advert_interval_seconds", "Time between its adverts.", |r| {
        r.advert_interval_seconds
    });
}

fn checks(out: &mut Exposition, routers: &[Router]) {
    out.gauge(
        "vipd_check_verdict",
        "1 for the verdict of a check, 0 for the others.",
        |verdicts| {
            for router in routers {
                for check in &router.checks {
                    for verdict in Verdict::ALL.map(Verdict::name) {
                        let labels = [
                            ("router", &*router.name),
                            ("check", &check.name),
                            ("verdict", verdict),
                        ];
                        verdicts.sample(&labels, u8::from(check.verdict == verdict));
                    }
                }
            }
        },
    );
    let each = |out: &mut Exposition, name, help, value: fn(&Check) -> Option<f64>| {
        out.gauge(name, help, |family| {
            for router in routers {
                for check in &router.checks {
                    if let Some(value) = value(check) {
                        let labels = [("router", router.name.as_str()), ("check", &check.name)];
                        family.sample(&labels, value);
                    }
                }
            }
        });
    };
    each(
        out,
        "vipd_check_streak",
        "How many runs of a check in a row have passed, or have failed.",
        |check| Some(check.streak.into()),
    );
    each(out, "vipd_check_duration_seconds", "How long its last run took.", |check| {
        check.took_seconds
    });
    each(
        out,
        "vipd_check_last_run_timestamp_seconds",
        "When its last run ended, Unix time.",
        |check| check.at.as_deref().and_then(unix),
    );
}

fn addresses(out: &mut Exposition, routers: &[Router]) {
    out.gauge(
        "vipd_address_present",
        "Whether this host has the shared address, put there by vipd (priority 255: by the host).",
        |present| {
            for router in routers {
                for address in &router.addresses {
                    let text = address.address.to_string();
                    let labels = [("router", router.name.as_str()), ("address", &text)];
                    present.sample(&labels, u8::from(address.present));
                }
            }
        },
    );
    out.gauge(
        "vipd_address_lease_seconds",
        "How long the kernel keeps the address unless vipd renews it.",
        |leases| {
            for router in routers {
                for address in &router.addresses {
                    if let Some(lease) = address.lease_seconds {
                        let text = address.address.to_string();
                        leases.sample(&[("router", &router.name), ("address", &text)], lease);
                    }
                }
            }
        },
    );
}

fn peers(out: &mut Exposition, routers: &[Router], now: SystemTime) {
    let at = |seconds_ago: f64| {
        let ago = Duration::try_from_secs_f64(seconds_ago).unwrap_or_default();
        now.checked_sub(ago).and_then(since_epoch)
    };
    out.gauge(
        "vipd_peer_last_heard_timestamp_seconds",
        "When the last advert of another router was heard, Unix time.",
        |heard| {
            for router in routers {
                if let Some(peer) = &router.heard
                    && let Some(at) = at(peer.seconds_ago)
                {
                    let text = peer.address.to_string();
                    heard.sample(&[("router", &router.name), ("peer", &text)], at);
                }
            }
        },
    );
    out.gauge(
        "vipd_peer_priority",
        "The priority in the last advert of another router; 0: it was leaving.",
        |priorities| {
            for router in routers {
                if let Some(peer) = &router.heard {
                    let text = peer.address.to_string();
                    let labels = [("router", router.name.as_str()), ("peer", &text)];
                    priorities.sample(&labels, peer.priority);
                }
            }
        },
    );
    out.gauge(
        "vipd_contender_last_seen_timestamp_seconds",
        "When another machine was last seen to have an address of ours, Unix time.",
        |seen| {
            for router in routers {
                for contender in &router.contenders {
                    if let Some(at) = at(contender.seconds_ago) {
                        let address = contender.address.to_string();
                        let labels = [
                            ("router", router.name.as_str()),
                            ("address", &address),
                            ("mac", &contender.mac),
                        ];
                        seen.sample(&labels, at);
                    }
                }
            }
        },
    );
    out.gauge(
        "vipd_incompatible_peer_last_heard_timestamp_seconds",
        "When a peer whose settings differ was last heard, Unix time; status says what to change.",
        |heard| {
            for router in routers {
                for peer in &router.incompatible {
                    if let Some(at) = at(peer.seconds_ago) {
                        let text = peer.address.to_string();
                        heard.sample(&[("router", &router.name), ("peer", &text)], at);
                    }
                }
            }
        },
    );
}

fn counted(out: &mut Exposition, routers: &[Router]) {
    out.counter(
        "vipd_router_role_seconds_total",
        "How long it has had the role since the daemon started.",
        |spans| {
            for router in routers {
                for (role, seconds) in &router.role_seconds {
                    spans.sample(&[("router", &router.name), ("role", role)], seconds);
                }
            }
        },
    );
    out.counter("vipd_transitions_total", "Changes of role, by their cause.", |transitions| {
        for router in routers {
            for counted in &router.counters.transitions {
                let labels = [
                    ("router", router.name.as_str()),
                    ("from", &counted.from),
                    ("to", &counted.to),
                    ("cause", &counted.cause),
                ];
                transitions.sample(&labels, counted.count);
            }
        }
    });
    let each = |out: &mut Exposition, name, help, value: fn(&Router) -> u64| {
        out.counter(name, help, |family| {
            for router in routers {
                family.sample(&[("router", &router.name)], value(router));
            }
        });
    };
    each(out, "vipd_adverts_sent_total", "Adverts that the kernel accepted.", |r| {
        r.counters.adverts_sent
    });
    each(out, "vipd_adverts_refused_total", "Adverts that the kernel refused.", |r| {
        r.counters.adverts_refused
    });
    each(out, "vipd_adverts_undelivered_total", "Adverts that left and did not arrive.", |r| {
        r.counters.adverts_undelivered
    });
    each(
        out,
        "vipd_adverts_received_total",
        "Packets for this virtual router, including discarded ones.",
        |r| r.counters.adverts_received,
    );
    out.counter("vipd_discards_total", "Packets that were not acted on.", |discards| {
        for router in routers {
            for (reason, count) in &router.counters.discards {
                discards.sample(&[("router", &router.name), ("reason", reason)], count);
            }
        }
    });
    histogram(
        out,
        routers,
        "vipd_advert_lateness_seconds",
        "How long after its moment an advert of the schedule left.",
        |router| &router.counters.advert_lateness,
    );
    each(
        out,
        "vipd_announcements_total",
        "Rounds of gratuitous ARP or neighbour advertisements.",
        |r| r.counters.announcements,
    );
    each(
        out,
        "vipd_contending_adverts_total",
        "Adverts of others heard while it was master and stayed so.",
        |r| r.counters.contending_adverts,
    );
    each(
        out,
        "vipd_contending_announcements_total",
        "Announcements by others of addresses that this host held; one that is repeated within a millisecond counts once.",
        |r| r.counters.contending_announcements,
    );
    each(
        out,
        "vipd_addresses_removed_total",
        "Addresses of ours that something on this host removed.",
        |r| r.counters.addresses_removed,
    );
    histogram(
        out,
        routers,
        "vipd_lease_renewal_lateness_seconds",
        "How long after the advert that it goes with a renewal of the lease was done.",
        |router| &router.counters.renewal_lateness,
    );
    each(
        out,
        "vipd_lease_renewals_failed_total",
        "Renewals of the lease that the kernel refused, or that came too late to be sent.",
        |r| r.counters.renewals_failed,
    );
}

fn hooks(out: &mut Exposition, routers: &[Router]) {
    out.counter("vipd_hook_runs_total", "Hooks that ended, by how they did.", |runs| {
        for router in routers {
            for counted in &router.counters.hooks {
                let labels = [
                    ("router", router.name.as_str()),
                    ("hook", &counted.hook),
                    ("outcome", &counted.outcome),
                ];
                runs.sample(&labels, counted.count);
            }
        }
    });
    let each = |out: &mut Exposition,
                name,
                help,
                value: fn(&crate::api::status::LastHook) -> Option<f64>| {
        out.gauge(name, help, |family| {
            for router in routers {
                if let Some(hook) = &router.last_hook
                    && let Some(value) = value(hook)
                {
                    family.sample(&[("router", &router.name), ("hook", &hook.hook)], value);
                }
            }
        });
    };
    each(out, "vipd_last_hook_success", "Whether the hook that ended last did its work.", |hook| {
        Some((!hook.failed).into())
    });
    each(out, "vipd_last_hook_duration_seconds", "How long it ran.", |hook| {
        Some(hook.took_seconds)
    });
    each(out, "vipd_last_hook_timestamp_seconds", "When it ended, Unix time.", |hook| {
        unix(&hook.at)
    });
}

fn histogram(
    out: &mut Exposition,
    routers: &[Router],
    name: &str,
    help: &str,
    of: fn(&Router) -> &Histogram,
) {
    out.family(name, "histogram", help, |family| {
        for router in routers {
            let (labels, histogram) = ([("router", router.name.as_str())], of(router));
            let mut below = 0;
            for (bound, count) in histogram.bounds_seconds.iter().zip(&histogram.counts) {
                below += count;
                let bound = format!("{bound:?}");
                family.part("_bucket", &[labels[0], ("le", &bound)], below);
            }
            family.part("_bucket", &[labels[0], ("le", "+Inf")], histogram.count());
            family.part("_sum", &labels, histogram.sum_seconds);
            family.part("_count", &labels, histogram.count());
        }
    });
}

/// The first advertised address: the same on every host of a virtual router.
fn first_address(router: &Router) -> String {
    router.addresses.first().map(|first| first.address.to_string()).unwrap_or_default()
}

fn unix(rfc3339: &str) -> Option<f64> {
    humantime::parse_rfc3339(rfc3339).ok().and_then(since_epoch)
}

/// To the millisecond.
fn since_epoch(at: SystemTime) -> Option<f64> {
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_millis() as f64 / 1000.0)
}

struct Exposition {
    text: String,
    format: Format,
}

/// One metric while its samples are written.
struct MetricFamily<'a> {
    text: &'a mut String,
    name: &'a str,
}

impl Exposition {
    fn gauge(&mut self, name: &str, help: &str, samples: impl FnMut(&mut MetricFamily<'_>)) {
        self.family(name, "gauge", help, samples);
    }

    fn counter(&mut self, name: &str, help: &str, samples: impl FnMut(&mut MetricFamily<'_>)) {
        self.family(name, "counter", help, samples);
    }

    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        mut samples: impl FnMut(&mut MetricFamily<'_>),
    ) {
        // The suffix belongs to the sample's name in OpenMetrics, to the metric's in the older format.
        let whole = match self.format {
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Format::Text => name,
        };
        let text = &mut self.text;
        let _ = writeln!(text, "# HELP {whole} {help}\n# TYPE {whole} {kind}");
        if self.format == Format::OpenMetrics && whole.ends_with("_seconds") {
            let _ = writeln!(text, "# UNIT {whole} seconds");
        }
        samples(&mut MetricFamily { text, name });
    }
}

impl MetricFamily<'_> {
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.part("", labels, value);
    }

    fn part(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let text = &mut *self.text;
        text.push_str(self.name);
        text.push_str(suffix);
        for (n, (name, value)) in labels.iter().enumerate() {
            text.push(if n == 0 { '{' } else { ',' });
            let _ = write!(text, "{name}=\"");
            for c in value.chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    other => text.push(other),
                }
            }
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::status::example;

    #[test]
    fn without_a_daemon_vipd_up_is_0() {
        let text = metrics(None, UNIX_EPOCH, Format::Text);
        assert!(text.contains("\nvipd_up 0\n"), "{text}");
        assert!(!text.contains("vipd_build_info"), "{text}");
    }

    #[test]
    fn label_values_are_escaped() {
        let mut text = String::new();
        let mut family = MetricFamily { text: &mut text, name: "x" };
        family.sample(&[("router", "a\"b\\c\nd"), ("role", "master")], 1);
        assert_eq!(text, "x{router=\"a\\\"b\\\\c\\nd\",role=\"master\"} 1\n");
    }

    #[test]
    fn buckets_are_cumulative_and_both_formats_name_counters_their_way() {
        let mut out = Exposition { text: String::new(), format: Format::OpenMetrics };
        out.counter("vipd_x_total", "X.", |family| family.sample(&[], 3));
        assert_eq!(out.text, "# HELP vipd_x X.\n# TYPE vipd_x counter\nvipd_x_total 3\n");
        let mut out = Exposition { text: String::new(), format: Format::Text };
        out.counter("vipd_x_total", "X.", |family| family.sample(&[], 3));
        assert_eq!(
            out.text,
            "# HELP vipd_x_total X.\n# TYPE vipd_x_total counter\nvipd_x_total 3\n"
        );
    }

    #[test]
    fn a_scraper_gets_the_format_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::wanted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::wanted("text/html,*/*;q=0.8"), Format::Text);
        assert_eq!(Format::wanted(""), Format::Text);
    }

    #[test]
    fn every_role_and_verdict_has_a_series_and_one_of_them_is_1() {
        for role in Role::ALL {
            let mut status = example();
            status.routers[0].role = role.name().to_owned();
            let text = metrics(Some(&status), UNIX_EPOCH, Format::Text);
            assert_eq!(
                ones(&text, "vipd_router_role", "role", Role::ALL.map(Role::name)),
                [role.name()]
            );
        }
        for verdict in Verdict::ALL {
            let mut status = example();
            status.routers[0].checks = vec![check(verdict)];
            let text = metrics(Some(&status), UNIX_EPOCH, Format::Text);
            let all = Verdict::ALL.map(Verdict::name);
            assert_eq!(ones(&text, "vipd_check_verdict", "verdict", all), [verdict.name()]);
        }
    }

    /// Those of the words whose series is 1; each must have one.
    fn ones<const N: usize>(
        text: &str,
        metric: &str,
        label: &str,
        words: [&'static str; N],
    ) -> Vec<&'static str> {
        let value = |word: &&str| {
            let label = format!("{label}=\"{word}\"");
            let mut lines =
                text.lines().filter(|line| line.starts_with(metric) && line.contains(&label));
            lines.next().and_then(|line| line.rsplit(' ').next()).expect(word) == "1"
        };
        words.into_iter().filter(value).collect()
    }

    fn check(verdict: Verdict) -> Check {
        Check {
            name: "http".to_owned(),
            verdict: verdict.name().to_owned(),
            verdict_seconds: 1.0,
            streak: 1,
            effect: "fault".to_owned(),
            weight: None,
            output: None,
            failed: false,
            at: None,
            took_seconds: None,
        }
    }
}
