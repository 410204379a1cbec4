//! What systemd is told (sd_notify(3)), and standard error: that the blocker is ready, which is once all that is remembered stands again, as
//! far as it can. Whoever is ordered after psentry-block.service starts behind whole walls.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use sd_notify::NotifyState;

use crate::report::Reporter;

/// How many are still at it.
pub(crate) struct Ready {
    left: AtomicUsize,
    sentence: OnceLock<String>,
    reporter: Arc<Reporter>,
}

impl Ready {
    /// Ready when [`done`](Self::done) was called as often as this.
    pub(crate) fn after(count: usize, reporter: &Arc<Reporter>) -> Arc<Self> {
        Arc::new(Ready {
            left: AtomicUsize::new(count),
            sentence: OnceLock::new(),
            reporter: Arc::clone(reporter),
        })
    }

    /// What standard error is told then. Call it before the last one is done.
    pub(crate) fn say(&self, sentence: String) {
        let _ = self.sentence.set(sentence);
    }

    /// One of them has put back what it can. The last one tells; where nobody waits for that, it is told to nobody.
    pub(crate) fn done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        self.sentence.get().into_iter().for_each(|sentence| self.reporter.tell(sentence));
        if let Err(why) = sd_notify::notify(&[NotifyState::Ready]) {
            self.reporter.tell(&format!(
                "the service manager cannot be told that psentry-block is ready: {why}; with Type=notify it will take \
                 it for hanging: RestrictAddressFamilies= has to allow AF_UNIX"
            ));
        }
    }
}
