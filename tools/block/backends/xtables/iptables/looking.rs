//! Whether the rules are as they should be, for where nobody tells of changes: the legacy variant.

use super::Iptables;
use super::blocks::{as_they_are, by_scope, commands};
use super::chains::{is_jump, setup};
use super::listed::entries;
use crate::backend::{Noticed, Proof};
use crate::backends::SOMEBODY;
use crate::error::Error;

impl Iptables {
    /// Whether the rules of a family are as they should be.
    pub(super) fn look_at(&mut self, ipv4: bool, should: Proof, noticed: &mut Noticed) -> Result<(), Error> {
        let Some(filter) = self.filters.of(ipv4).filter(|_| should.all() > 0) else { return Ok(()) };
        let rules = filter.rules()?;
        self.order.look(filter, &rules, is_jump);
        let somebody = || Some(SOMEBODY.to_owned());
        let entries = entries(&rules);
        let ground = setup(self.extent, filter, &rules, false)?.commands;
        let (blocks, _) = commands(self.extent, &by_scope(&rules), &as_they_are(&entries));
        let whole = ground.is_empty() && blocks.is_empty();
        match should.all().saturating_sub(entries.len()) {
            0 if whole => {}
            // Of several that went within half a second nobody thought of each.
            1 if whole => noticed.edited = somebody(),
            _ => noticed.damaged = somebody(),
        }
        Ok(())
    }
}
