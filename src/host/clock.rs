//! The protocol's time on this host: a clock that goes on through suspend, and the one timer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;

use crate::vrrp::Instant;

/// Counts from its creation, on `CLOCK_BOOTTIME`: a host that was suspended must know how late
/// it is.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Duration,
}

impl Clock {
    /// A clock whose [`Instant::START`] is now.
    pub fn start() -> Self {
        Clock { origin: boottime() }
    }

    /// The time now.
    pub fn now(&self) -> Instant {
        self.instant(boottime())
    }

    /// The instant of an absolute `CLOCK_BOOTTIME`; what lies before the start is the start.
    pub fn instant(&self, boottime: Duration) -> Instant {
        Instant::START + boottime.saturating_sub(self.origin)
    }

    /// The absolute `CLOCK_BOOTTIME` of an instant.
    pub fn boottime_of(&self, at: Instant) -> Duration {
        self.origin.saturating_add(at.since_start())
    }
}

/// `CLOCK_BOOTTIME`: the time since this host booted, suspends included. The same for every
/// process, so it can be written down for a successor.
pub fn boottime() -> Duration {
    read(nix::time::ClockId::CLOCK_BOOTTIME)
}

/// How long this host has been suspended since it booted, to within microseconds.
pub fn suspended() -> Duration {
    let before = read(nix::time::ClockId::CLOCK_MONOTONIC);
    boottime().saturating_sub(before)
}

fn read(clock: nix::time::ClockId) -> Duration {
    // Both clocks exist on every kernel that runs this program; without time there is no protocol.
    clock_gettime(clock).map(Duration::from).expect("the kernel has no such clock")
}

/// The one timer: readable when the deadline it was set to has come.
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    /// A timer that is not set.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Timer(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?))
    }

    /// Sets the deadline, or none, in place of the one before. A deadline in the past has come.
    pub fn set(&self, clock: &Clock, deadline: Option<Instant>) -> io::Result<()> {
        let Some(deadline) = deadline else { return Ok(self.0.unset()?) };
        let at = clock.boottime_of(deadline).max(Duration::from_nanos(1));
        let at = Expiration::OneShot(TimeSpec::from_duration(at));
        Ok(self.0.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }

    /// Makes it unreadable again; says whether the deadline had come.
    pub fn acknowledge(&self) -> bool {
        self.0.wait().is_ok()
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn fires(timer: &Timer, within: u16) -> bool {
        let mut fds = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(within)).unwrap() == 1
    }

    #[test]
    fn a_timer_fires_at_its_deadline_and_not_before() {
        let clock = Clock::start();
        let timer = Timer::new().unwrap();
        assert!(!fires(&timer, 0) && !timer.acknowledge());

        let deadline = clock.now() + Duration::from_millis(20);
        timer.set(&clock, Some(deadline)).unwrap();
        assert!(fires(&timer, 5000));
        assert!(clock.now() >= deadline);
        assert!(timer.acknowledge() && !timer.acknowledge());
        assert!(!fires(&timer, 0));
    }

    #[test]
    fn a_deadline_in_the_past_has_come() {
        let clock = Clock::start();
        let timer = Timer::new().unwrap();
        timer.set(&clock, Some(Instant::START)).unwrap();
        assert!(fires(&timer, 5000));
    }

    #[test]
    fn an_earlier_deadline_replaces_a_later_one_and_none_replaces_both() {
        let clock = Clock::start();
        let timer = Timer::new().unwrap();
        timer.set(&clock, Some(clock.now() + Duration::from_secs(3600))).unwrap();
        timer.set(&clock, Some(clock.now() + Duration::from_millis(1))).unwrap();
        assert!(fires(&timer, 5000));
        timer.set(&clock, None).unwrap();
        assert!(!fires(&timer, 10));
    }

    #[test]
    fn an_instant_and_its_boottime_are_each_others_inverse() {
        let clock = Clock::start();
        let at = Instant::from_millis(1500);
        assert_eq!(clock.instant(clock.boottime_of(at)), at);
        assert_eq!(clock.instant(Duration::ZERO), Instant::START);
        assert!(boottime() >= suspended());
    }
}
