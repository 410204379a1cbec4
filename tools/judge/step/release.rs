//! From a block that somebody released to a source that is judged anew.

use psentry_records::Prefix;

use crate::clock::Tick;
use crate::memory::Source;
use crate::state::State;

/// Whether the word that the block of `said` was released is about the block of `scope`. No block is as wide as all addresses:
/// of them it says that everybody was released.
pub(crate) fn is_released(said: Prefix, scope: Prefix) -> bool {
    said == scope || (said.len() == 0 && said.contains(scope.addr()))
}

/// Takes the word that the block of a scope was released. Who was released is not held convicted for the rest of its time: else
/// nothing would be said of it until then, whatever it does.
pub(super) fn take_release(state: &mut State, said: Prefix, tick: Tick) {
    if said.len() > 0 {
        return release(state, said, tick);
    }
    let sources = state.sources.oldest_first().map(|(scope, _)| scope);
    let sweeps = state.sweeps.iter().map(|(prefix, _)| *prefix);
    let scopes: Vec<Prefix> = sources.chain(sweeps).filter(|scope| is_released(said, *scope)).collect();
    scopes.into_iter().for_each(|scope| release(state, scope, tick));
}

fn release(state: &mut State, scope: Prefix, tick: Tick) {
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
