//! What something costs this machine: the processor's time, not the clock's, for on a busy machine most of that belongs to
//! others.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Does it, and says how much time of the processor this thread spent on it.
#[must_use]
pub fn spent<T>(on: impl FnOnce() -> T) -> (T, Duration) {
    let before = of_this_thread();
    let done = on();
    (done, of_this_thread().saturating_sub(before))
}

/// Linux has this clock since 2.6.12 (clock_gettime(2)); without it everything is free, and looked at each time.
fn of_this_thread() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_and_sleep_does_not() {
        let (_, asleep) = spent(|| std::thread::sleep(Duration::from_millis(300)));
        assert!(asleep < Duration::from_millis(200), "{asleep:?}");
        let until = of_this_thread() + Duration::from_millis(20);
        let ((), awake) = spent(|| while of_this_thread() < until {});
        assert!(awake >= Duration::from_millis(19), "{awake:?}");
    }
}
