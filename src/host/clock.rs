//! The clock of the protocol, which continues during suspend, and the timer of the event loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;

use crate::vrrp::Instant;

/// Converts between [`Instant`] and `CLOCK_BOOTTIME`. That clock includes suspends, so a host that
/// was suspended knows how much time it has missed.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Duration,
}

impl Clock {
    /// A clock on which [`Instant::START`] is now.
    pub fn start() -> Self {
        Clock { origin: boottime() }
    }

    pub fn now(&self) -> Instant {
        self.instant(boottime())
    }

    /// The instant at a `CLOCK_BOOTTIME`; [`Instant::START`] if that was earlier.
    pub fn instant(&self, boottime: Duration) -> Instant {
        Instant::START + boottime.saturating_sub(self.origin)
    }

    /// The `CLOCK_BOOTTIME` of an instant.
    pub fn boottime_of(&self, at: Instant) -> Duration {
        self.origin.saturating_add(at.since_start())
    }
}

/// `CLOCK_BOOTTIME`: time since boot, including suspends (clock_gettime(2)). It is the same for
/// every process, so it can be stored for the next daemon.
pub fn boottime() -> Duration {
    read(nix::time::ClockId::CLOCK_BOOTTIME)
}

/// How long this host has been suspended since boot, accurate to microseconds: the two clocks are
/// read one after the other.
pub fn suspended() -> Duration {
    let before = read(nix::time::ClockId::CLOCK_MONOTONIC);
    boottime().saturating_sub(before)
}

fn read(clock: nix::time::ClockId) -> Duration {
    // Both clocks exist on every supported kernel, and nothing can work without them.
    clock_gettime(clock).map(Duration::from).expect("the kernel has no such clock")
}

/// A timerfd on `CLOCK_BOOTTIME`: readable when its deadline has passed.
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// As timerfd_create(2).
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Timer(TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?))
    }

    /// Replaces the deadline. One in the past expires at once; `None` disarms the timer.
    ///
    /// # Errors
    /// As timerfd_settime(2).
    pub fn set(&self, clock: &Clock, deadline: Option<Instant>) -> io::Result<()> {
        let Some(deadline) = deadline else { return Ok(self.0.unset()?) };
        let at = clock.boottime_of(deadline).max(Duration::from_nanos(1));
        let at = Expiration::OneShot(TimeSpec::from_duration(at));
        Ok(self.0.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }

    /// Makes the timer unreadable again. Returns whether the deadline had passed.
    pub fn acknowledge(&self) -> bool {
        self.0.wait().is_ok()
    }
}

/// Deadlines closer than this limit the wait of the event loop; later ones are left to the timer.
/// The wait does not count time in suspend, so it may end this much too late after one.
const TIMER_THRESHOLD: Duration = Duration::from_millis(100);

/// The next deadline of the event loop, with microsecond resolution.
///
/// A close deadline becomes the timeout of epoll_pwait2(2), which saves a system call. A distant
/// one is set on a timer, because the timeout does not count time in suspend.
#[derive(Debug)]
pub struct Alarm {
    timer: Timer,
    /// Deadline of the timer; `None` once it has expired.
    timer_set: Option<Instant>,
    /// The timer has expired, and stays readable until it is set or acknowledged.
    timer_fired: bool,
    at: Option<Instant>,
    /// The timeout of the wait is used, not the timer.
    near: bool,
}

impl Alarm {
    /// An alarm that is not set.
    ///
    /// # Errors
    /// As timerfd_create(2).
    pub fn new() -> io::Result<Self> {
        let timer = Timer::new()?;
        Ok(Alarm { timer, timer_set: None, timer_fired: false, at: None, near: false })
    }

    /// Replaces the deadline; `None` for none. A timer that would expire earlier is left as it is:
    /// every received advert moves the deadline of a backup, and an occasional early wake-up costs
    /// less than a system call per advert.
    ///
    /// # Errors
    /// As timerfd_settime(2).
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

    /// To be called when the timer was reported as readable.
    pub fn fired(&mut self) {
        (self.timer_set, self.timer_fired) = (None, true);
    }

    /// Timeout for the wait, in addition to the timer; `None` for no timeout.
    pub fn limit(&self, clock: &Clock) -> Option<Duration> {
        self.at.filter(|_| self.near).map(|at| at - clock.now())
    }

    pub fn at(&self) -> Option<Instant> {
        self.at
    }
}

impl AsFd for Alarm {
    /// Descriptor of the timer; readable when it has expired.
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
    fn a_close_deadline_limits_the_wait_and_a_distant_one_sets_the_timer() {
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
        // An expired timer must not stay readable, or the event loop would spin.
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
