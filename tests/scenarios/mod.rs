//! Scenarios that operators rely on, written once: each is run on the simulator
//! (`tests/simulation.rs`) and on the real binary in namespaces (`netns-tests/`).
//!
//! A scenario is data: hosts, steps and expectations in order. A runner starts every host
//! that is not set up as `asleep`, performs the steps, and stops everything at the end. An expectation
//! with a limit must hold at some moment within it; [`Step::Mark`] forgets what clients have seen.

use std::time::Duration;

/// One host of a scenario: one interface on a common link, one virtual router with one address.
/// Omitted keys have their defaults, except for delays, which are 0.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// `a` has the lowest own address, then `b`, and so on.
    pub name: &'static str,
    pub priority: u8,
    pub preempt: bool,
    pub link_delay: Duration,
    pub exclusive: bool,
    /// Sends adverts to each other host instead of the multicast group.
    pub unicast: bool,
    /// Not started at the beginning.
    pub asleep: bool,
}

impl Setup {
    pub const fn no_preempt(mut self) -> Self {
        self.preempt = false;
        self
    }

    pub const fn link_delay(mut self, delay: Duration) -> Self {
        self.link_delay = delay;
        self
    }

    pub const fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    pub const fn unicast(mut self) -> Self {
        self.unicast = true;
        self
    }

    pub const fn asleep(mut self) -> Self {
        self.asleep = true;
        self
    }
}

/// A host with this priority.
pub const fn host(name: &'static str, priority: u8) -> Setup {
    Setup {
        name,
        priority,
        preempt: true,
        link_delay: Duration::ZERO,
        exclusive: false,
        unicast: false,
        asleep: false,
    }
}

/// One step or expectation of a scenario.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    // ---- what happens
    /// The daemon is started.
    Start(&'static str),
    /// The daemon gets TERM, and has ended before the next step.
    Stop(&'static str),
    /// The daemon gets USR2 and a new one is started as soon as it has ended.
    Restart(&'static str),
    /// The daemon alone gets KILL.
    Kill(&'static str),
    /// The daemon alone gets STOP.
    Freeze(&'static str),
    /// The daemon gets CONT.
    Thaw(&'static str),
    /// The host is gone at once, with all its addresses; no carrier is lost.
    Crash(&'static str),
    /// Packets between the two are lost, both ways; no carrier is lost.
    Cut(&'static str, &'static str),
    /// What the first sends no longer reaches the second.
    CutOneWay(&'static str, &'static str),
    /// Every cut is repaired.
    Heal,
    /// The interface loses its carrier.
    LinkDown(&'static str),
    /// The interface has its carrier again.
    LinkUp(&'static str),
    /// The packet filter of the host drops all adverts that it sends.
    DropAdverts(&'static str),
    /// The packet filter of the first drops its adverts to the second.
    DropAdvertsTo(&'static str, &'static str),
    /// The packet filter of the host drops nothing any more.
    DropNothing(&'static str),
    /// Another program on the host deletes the shared address.
    RemoveAddress(&'static str),
    /// The interface loses the host's own address.
    OwnAddressGone(&'static str),
    /// It has it again.
    OwnAddressBack(&'static str),
    /// `vipd failover`.
    Failover(&'static str),
    /// `vipd resume`.
    Resume(&'static str),
    /// `vipd drain`.
    Drain(&'static str),
    /// `vipd drain --force`.
    DrainByForce(&'static str),
    /// `vipd undrain`.
    Undrain(&'static str),
    /// Time goes by.
    Wait(Duration),

    // ---- what is expected
    /// Within this time the host is master, the only one, and alone has the address.
    MasterWithin(&'static str, Duration),
    /// The host is master now, the only one, and alone has the address.
    MasterIs(&'static str),
    /// No host that takes part is master now.
    NobodyIsMaster,
    /// The host does not have the address now.
    HasNot(&'static str),
    /// From here on what clients see is counted anew.
    Mark,
    /// Since the mark some host could answer at every instant, and no packet went to a host
    /// that could not.
    NothingWasLost,
    /// Since the mark no host answered for at most this long at a time.
    NobodyAnsweredAtMost(Duration),
    /// Since the mark two answered for at most this long at a time.
    TwoAnsweredAtMost(Duration),
}

/// A title that is a sentence, hosts, and what happens.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// In milliseconds, a multiple of 10.
    pub interval_ms: u16,
    pub hosts: &'static [Setup],
    pub steps: &'static [Step],
}

impl Scenario {
    /// Whether it needs commands to a running daemon.
    pub fn needs_commands(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(
                step,
                Step::Failover(_)
                    | Step::Resume(_)
                    | Step::Drain(_)
                    | Step::DrainByForce(_)
                    | Step::Undrain(_)
            )
        })
    }
}

use Step::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Somewhat more than the master-down interval with adverts of one second.
const TIMEOUT: Duration = Duration::from_millis(4500);

/// A pair as most operators run it.
const PAIR: &[Setup] = &[host("a", 150), host("b", 100)];

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "a_crashed_master_is_replaced_and_comes_back",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            Mark,
            Crash("a"),
            MasterWithin("b", TIMEOUT),
            NobodyAnsweredAtMost(ms(4000)),
            TwoAnsweredAtMost(ms(0)),
            Mark,
            Start("a"),
            MasterWithin("a", TIMEOUT),
            NothingWasLost,
        ],
    },
    Scenario {
        name: "a_better_host_takes_over_without_a_gap",
        interval_ms: 1000,
        hosts: &[host("a", 150).asleep(), host("b", 100)],
        steps: &[
            MasterWithin("b", TIMEOUT),
            Wait(s(2)),
            Mark,
            Start("a"),
            MasterWithin("a", TIMEOUT),
            Wait(s(3)),
            MasterIs("a"),
            NothingWasLost,
            TwoAnsweredAtMost(ms(50)),
        ],
    },
    Scenario {
        name: "a_better_host_that_does_not_preempt_leaves_the_master_alone",
        interval_ms: 1000,
        hosts: &[host("a", 150).no_preempt().asleep(), host("b", 100)],
        steps: &[
            MasterWithin("b", TIMEOUT),
            Mark,
            Start("a"),
            Wait(s(9)),
            MasterIs("b"),
            NothingWasLost,
            TwoAnsweredAtMost(ms(0)),
            Crash("b"),
            MasterWithin("a", TIMEOUT),
        ],
    },
    Scenario {
        name: "an_unheard_newcomer_that_does_not_preempt_replaces_no_master",
        interval_ms: 1000,
        hosts: &[host("a", 150).no_preempt().asleep(), host("b", 100).no_preempt()],
        steps: &[
            MasterWithin("b", TIMEOUT),
            Wait(s(65)),
            CutOneWay("b", "a"),
            Wait(ms(300)),
            Start("a"),
            Wait(s(9)),
            Heal,
            MasterWithin("b", s(2)),
            Wait(s(5)),
            MasterIs("b"),
        ],
    },
    Scenario {
        name: "a_healed_partition_leaves_one_master",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Cut("a", "b"),
            Wait(s(6)),
            Heal,
            MasterWithin("a", s(2)),
            Mark,
            Wait(s(5)),
            MasterIs("a"),
            NothingWasLost,
            TwoAnsweredAtMost(ms(0)),
        ],
    },
    Scenario {
        name: "a_clean_stop_loses_nothing",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            Mark,
            Stop("a"),
            MasterWithin("b", s(2)),
            HasNot("a"),
            NothingWasLost,
            TwoAnsweredAtMost(ms(50)),
        ],
    },
    Scenario {
        name: "an_exclusive_stop_never_shows_two",
        interval_ms: 1000,
        hosts: &[host("a", 150).exclusive(), host("b", 100).exclusive()],
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            Mark,
            Stop("a"),
            MasterWithin("b", s(2)),
            HasNot("a"),
            NobodyAnsweredAtMost(ms(1000)),
            TwoAnsweredAtMost(ms(0)),
        ],
    },
    Scenario {
        name: "a_stop_without_a_successor_leaves_no_address_behind",
        interval_ms: 1000,
        hosts: &[host("a", 150)],
        steps: &[MasterWithin("a", TIMEOUT), Stop("a"), HasNot("a")],
    },
    Scenario {
        name: "a_failover_moves_it_and_it_stays_there",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            Mark,
            Failover("a"),
            MasterWithin("b", s(2)),
            Wait(s(10)),
            MasterIs("b"),
            Resume("a"),
            MasterWithin("a", TIMEOUT),
            NothingWasLost,
            TwoAnsweredAtMost(ms(50)),
        ],
    },
    Scenario {
        name: "a_failover_without_a_peer_moves_nothing",
        interval_ms: 1000,
        hosts: &[host("a", 150), host("b", 100).asleep()],
        steps: &[
            MasterWithin("a", TIMEOUT),
            Mark,
            Failover("a"),
            Wait(s(5)),
            MasterIs("a"),
            NothingWasLost,
        ],
    },
    Scenario {
        name: "a_daemon_that_is_back_after_its_lease_has_ended_claims_before_the_peers_do",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(ms(2100)),
            Mark,
            Kill("a"),
            Wait(ms(2400)),
            HasNot("a"),
            Start("a"),
            MasterWithin("a", ms(800)),
            Wait(s(5)),
            MasterIs("a"),
            NobodyAnsweredAtMost(ms(1000)),
            TwoAnsweredAtMost(ms(0)),
        ],
    },
    Scenario {
        name: "a_drained_host_is_the_last_resort",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Mark,
            Drain("a"),
            MasterWithin("b", s(2)),
            NothingWasLost,
            Crash("b"),
            MasterWithin("a", TIMEOUT),
            Restart("a"),
            Wait(s(2)),
            MasterIs("a"),
            LinkDown("a"),
            Wait(s(1)),
            LinkUp("a"),
            MasterWithin("a", s(6)),
            Wait(s(1)),
            Mark,
            Start("b"),
            MasterWithin("b", TIMEOUT),
            NothingWasLost,
            Undrain("a"),
            MasterWithin("a", TIMEOUT),
        ],
    },
    Scenario {
        name: "a_drained_master_gives_way_to_a_peer_that_does_not_preempt",
        interval_ms: 1000,
        hosts: &[host("a", 150), host("b", 100).no_preempt().asleep()],
        steps: &[
            MasterWithin("a", TIMEOUT),
            Mark,
            Drain("a"),
            Wait(s(5)),
            MasterIs("a"),
            Start("b"),
            MasterWithin("b", s(20)),
            NothingWasLost,
        ],
    },
    Scenario {
        name: "two_drained_hosts_leave_the_role_where_it_is",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Drain("b"),
            Mark,
            Drain("a"),
            MasterWithin("b", TIMEOUT),
            Wait(s(25)),
            MasterIs("b"),
            NothingWasLost,
        ],
    },
    Scenario {
        name: "a_host_drained_by_force_serves_nothing",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            // Not beside an advert, which could be heard after priority 0.
            Wait(ms(2300)),
            DrainByForce("a"),
            MasterWithin("b", s(2)),
            Crash("b"),
            Wait(s(6)),
            NobodyIsMaster,
            Undrain("a"),
            MasterWithin("a", TIMEOUT),
        ],
    },
    Scenario {
        name: "equal_priorities_are_decided_by_address",
        interval_ms: 1000,
        hosts: &[host("a", 100), host("b", 100)],
        steps: &[
            Cut("a", "b"),
            Wait(s(6)),
            Heal,
            MasterWithin("b", s(2)),
            Wait(s(5)),
            MasterIs("b"),
        ],
    },
    Scenario {
        name: "a_daemon_that_wakes_late_listens_first",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            Mark,
            Freeze("a"),
            MasterWithin("b", TIMEOUT),
            TwoAnsweredAtMost(ms(0)),
            Wait(s(3)),
            Mark,
            Thaw("a"),
            Wait(s(1)),
            MasterIs("b"),
            MasterWithin("a", TIMEOUT),
            NothingWasLost,
        ],
    },
    Scenario {
        name: "a_killed_daemon_loses_its_address_before_the_peer_takes_over",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(ms(2300)),
            Mark,
            Kill("a"),
            MasterWithin("b", TIMEOUT),
            TwoAnsweredAtMost(ms(0)),
        ],
    },
    Scenario {
        name: "a_killed_daemon_that_is_back_in_time_moves_nothing",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            Mark,
            Kill("a"),
            Wait(ms(500)),
            Start("a"),
            MasterWithin("a", ms(500)),
            Wait(s(5)),
            MasterIs("a"),
            NothingWasLost,
            TwoAnsweredAtMost(ms(0)),
        ],
    },
    Scenario {
        name: "a_restart_moves_nothing",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            Mark,
            Restart("a"),
            MasterWithin("a", ms(500)),
            Wait(s(5)),
            MasterIs("a"),
            NothingWasLost,
            TwoAnsweredAtMost(ms(0)),
        ],
    },
    Scenario {
        name: "a_removed_address_is_put_back",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Mark,
            RemoveAddress("a"),
            Wait(ms(500)),
            MasterIs("a"),
            NobodyAnsweredAtMost(ms(100)),
        ],
    },
    Scenario {
        name: "an_own_address_that_is_gone_for_a_moment_moves_nothing",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            Mark,
            OwnAddressGone("a"),
            Wait(ms(200)),
            OwnAddressBack("a"),
            Wait(s(4)),
            OwnAddressGone("a"),
            Wait(ms(1800)),
            OwnAddressBack("a"),
            Wait(s(5)),
            MasterIs("a"),
            // Without the route that comes with it, the client may not be answered.
            NobodyAnsweredAtMost(ms(0)),
            TwoAnsweredAtMost(ms(0)),
        ],
    },
    Scenario {
        name: "an_own_address_that_stays_away_moves_it_with_a_farewell",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            Mark,
            OwnAddressGone("a"),
            MasterWithin("b", TIMEOUT),
            HasNot("a"),
            NobodyAnsweredAtMost(ms(700)),
            Mark,
            OwnAddressBack("a"),
            MasterWithin("a", TIMEOUT),
            NothingWasLost,
        ],
    },
    Scenario {
        name: "a_lost_link_moves_it_and_the_link_delay_holds",
        interval_ms: 1000,
        hosts: &[host("a", 150).link_delay(s(8)), host("b", 100)],
        steps: &[
            MasterWithin("a", s(12)),
            LinkDown("a"),
            MasterWithin("b", TIMEOUT),
            HasNot("a"),
            Mark,
            LinkUp("a"),
            Wait(s(6)),
            MasterIs("b"),
            MasterWithin("a", TIMEOUT),
            NothingWasLost,
        ],
    },
    Scenario {
        name: "a_host_whose_own_filter_drops_its_adverts_leaves_the_address_to_its_peer",
        interval_ms: 1000,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            DropAdverts("a"),
            MasterWithin("b", TIMEOUT),
            Mark,
            Wait(s(24)),
            MasterIs("b"),
            NothingWasLost,
            TwoAnsweredAtMost(ms(20)),
            DropNothing("a"),
            MasterWithin("a", s(40)),
            NothingWasLost,
        ],
    },
    Scenario {
        name: "a_unicast_peer_to_which_adverts_are_refused_costs_the_others_nothing",
        interval_ms: 1000,
        hosts: &[
            host("a", 150).unicast(),
            host("b", 100).unicast(),
            host("c", 50).unicast().asleep(),
        ],
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            Mark,
            DropAdvertsTo("a", "c"),
            Wait(s(12)),
            MasterIs("a"),
            NothingWasLost,
            TwoAnsweredAtMost(ms(0)),
        ],
    },
    Scenario {
        name: "the_two_best_of_three_hosts_crash_in_turn",
        interval_ms: 1000,
        hosts: &[host("a", 200), host("b", 150), host("c", 100)],
        steps: &[
            MasterWithin("a", TIMEOUT),
            Wait(s(2)),
            Mark,
            Crash("a"),
            MasterWithin("b", TIMEOUT),
            Wait(s(2)),
            Crash("b"),
            MasterWithin("c", TIMEOUT),
            NobodyAnsweredAtMost(ms(4000)),
            TwoAnsweredAtMost(ms(0)),
        ],
    },
    Scenario {
        name: "fast_adverts_fail_over_fast",
        interval_ms: 10,
        hosts: PAIR,
        steps: &[
            MasterWithin("a", s(1)),
            Wait(s(1)),
            Mark,
            Crash("a"),
            MasterWithin("b", s(1)),
            NobodyAnsweredAtMost(ms(60)),
            Mark,
            Start("a"),
            MasterWithin("a", s(1)),
            NothingWasLost,
        ],
    },
];
