//! From a block that somebody released to a source that is judged anew.

use psentry_records::Prefix;

use crate::clock::Tick;
use crate::memory::Source;
use crate::state::State;

/// Takes the word that the block of a scope was released. Whoever was let in again is not held convicted for the rest of its time: else nothing would
/// be said of it until then, whatever it does.
pub(super) fn take_release(state: &mut State, scope: Prefix, tick: Tick) {
    let in_force = |source: &&Source| source.until() > tick.earlier();
    let conviction = state.sources.peek(scope).filter(in_force).and_then(Source::conviction);
    let blocked = conviction.is_some_and(|conviction| !conviction.watch_only);
    if blocked {
        state.sources.update(scope, Source::release);
    }
    if blocked | state.sweeps.forget(scope) {
        state.counters.released += 1;
    }
}
