//! The protocol's time on this host: a clock that goes on through suspend, and the one alarm.

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

/// Nearer than this, waiting itself is enough: a host that was suspended is woken up no later.
const TIMER_THRESHOLD: Duration = Duration::from_millis(100);

/// When to wake up, at the latest; kept by the kernel to the microsecond. What is near is the limit of
/// the wait itself, which costs a system call less; what is far is left to a timer, as only that
/// counts while the host is suspended.
#[derive(Debug)]
pub struct Alarm {
    timer: Timer,
    /// What it is set to; `None` once it has gone off.
    timer_set: Option<Instant>,
    /// It has gone off, and remains readable until it is set again.
    timer_fired: bool,
    at: Option<Instant>,
    near: bool,
}

impl Alarm {
    /// One that is not set.
    ///
    /// # Errors
    /// The kernel has no timer for us.
    pub fn new() -> io::Result<Self> {
        let timer = Timer::new()?;
        Ok(Alarm { timer, timer_set: None, timer_fired: false, at: None, near: false })
    }

    /// When to wake up from now on, or not to, in place of what was set before. A timer that is
    /// early is not set again: with every advert a backup hears its deadline moves, and a wake-up now
    /// and then costs less.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(&mut self, clock: &Clock, now: Instant, at: Option<Instant>) -> io::Result<()> {
        self.at = at;
        self.near = at.is_some_and(|at| at - now < TIMER_THRESHOLD);
        if self.near {
            if std::mem::take(&mut self.timer_fired) {
                self.timer.acknowledge();
            }
            return Ok(());
        }
        let early_enough = match (self.timer_set, at) {
            (Some(set), Some(at)) => set <= at,
            (None, Some(_)) => false,
            (Some(_) | None, None) => !self.timer_fired,
        };
        if !early_enough {
            self.timer.set(clock, at)?;
            (self.timer_set, self.timer_fired) = (at, false);
        }
        Ok(())
    }

    /// The timer was seen to be readable.
    pub fn fired(&mut self) {
        (self.timer_set, self.timer_fired) = (None, true);
    }

    /// How long to wait at most beside the timer.
    pub fn limit(&self, clock: &Clock) -> Option<Duration> {
        self.at.filter(|_| self.near).map(|at| at - clock.now())
    }

    /// When to wake up.
    pub fn at(&self) -> Option<Instant> {
        self.at
    }
}

impl AsFd for Alarm {
    /// The timer's; readable when it has gone off.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
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
    fn what_is_near_limits_the_wait_and_what_is_far_is_left_to_the_timer() {
        let clock = Clock::start();
        let mut alarm = Alarm::new().unwrap();
        assert_eq!((alarm.at(), alarm.limit(&clock)), (None, None));
        let near = clock.now() + Duration::from_millis(50);
        alarm.set(&clock, clock.now(), Some(near)).unwrap();
        assert!(alarm.limit(&clock).unwrap() <= Duration::from_millis(50));
        assert!(!fires(&alarm.timer, 0));

        let far = clock.now() + Duration::from_millis(150);
        alarm.set(&clock, clock.now(), Some(far)).unwrap();
        assert_eq!((alarm.at(), alarm.limit(&clock)), (Some(far), None));
        assert!(fires(&alarm.timer, 5000) && clock.now() >= far);
        alarm.fired();
        // Otherwise it would wake everybody up for ever.
        for at in [Some(clock.now() + Duration::from_millis(50)), None] {
            alarm.set(&clock, clock.now(), Some(clock.now() + 2 * TIMER_THRESHOLD)).unwrap();
            assert!(fires(&alarm.timer, 5000));
            alarm.fired();
            alarm.set(&clock, clock.now(), at).unwrap();
            assert!(!fires(&alarm.timer, 0));
        }
    }

    #[test]
    fn a_timer_that_is_early_is_not_set_again() {
        let clock = Clock::start();
        let mut alarm = Alarm::new().unwrap();
        let first = clock.now() + Duration::from_millis(200);
        alarm.set(&clock, clock.now(), Some(first)).unwrap();
        alarm.set(&clock, clock.now(), Some(first + Duration::from_secs(3600))).unwrap();
        assert!(fires(&alarm.timer, 5000));
        assert_eq!(alarm.at(), Some(first + Duration::from_secs(3600)));
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
