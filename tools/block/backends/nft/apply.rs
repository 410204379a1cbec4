//! Blocks put into their sets and deleted, a transaction for as many as fit. What a transaction does is in
//! `elements.rs`.

use std::collections::HashMap;
use std::slice;

use nix::errno::Errno;
use psentry_linux::Error as SystemError;
use psentry_records::{Prefix, Timestamp};

use super::super::set_elements::{self, Key};
use super::super::{failed, in_order};
use super::elements::{self, BYTES, Keys, Put};
use super::set_id::{SIZE, SetId};
use super::{BATCH, NAME, Nft, refused};
use crate::backend::Op;
use crate::block::{Block, Entry};
use crate::error::Error;

/// How many elements are swept in one transaction.
const SWEPT: usize = 1000;

impl Nft {
    /// Applies operations, and says of each how it went.
    pub(super) fn apply_ops(&mut self, ops: &[Op]) -> Vec<Result<(), Error>> {
        let (mut deletes, mut puts) = (Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::Delete { scope, was } => deletes.push((*scope, was)),
                Op::Put { scope, block, was } => puts.push(Put { scope: *scope, block, was: was.as_ref() }),
            }
        }
        let most = (self.table.capacity() / BYTES).clamp(1, BATCH);
        let mut done = Vec::new();
        // Deletions first: they make room.
        for batch in elements::batches(&deletes, most, |(_, was)| elements::weight(was)) {
            let deleted = self.delete(batch);
            done.extend(batch.iter().map(|(scope, _)| (*scope, deleted.clone())));
        }
        for batch in elements::batches(&puts, most, Put::weight) {
            done.extend(batch.iter().map(|put| put.scope).zip(self.put_batch(batch)));
        }
        in_order(ops, done)
    }

    /// Deletes blocks, where they are known to be, or else wherever they are.
    fn delete(&mut self, batch: &[(Prefix, &Block)]) -> Result<(), Error> {
        let doing = "unblock";
        match self.commit(doing, elements::delete(&elements::keys(batch.iter().copied())))? {
            Ok(()) => Ok(()),
            // Some of them have ended, or are in other sets. None was deleted.
            Err(Errno::ENOENT) => self.sweep(&batch.iter().map(|(scope, _)| (*scope, None)).collect()),
            Err(errno) => Err(refused(doing, errno)),
        }
    }

    /// The elements of a set, each with the block that it says alone.
    pub(super) fn elements(&mut self, set: SetId) -> Result<Vec<(Key, Entry)>, Error> {
        let read = |element: psentry_nftables::Element<'_>| elements::entry(set, &element, Timestamp::now());
        self.table.elements(&set.name(), read).map_err(failed(NAME))
    }

    /// Deletes whatever is there of these scopes, but for the block that is to stay.
    fn sweep(&mut self, scopes: &HashMap<Prefix, Option<&Block>>) -> Result<(), Error> {
        let mut strays = Vec::new();
        for set in self.find_sets()? {
            let may_hold = |(scope, stays): (&Prefix, &Option<&Block>)| {
                // Of a whole scope the set of the block can hold nothing else.
                let clean = stays.is_some_and(|block| !set.ports && SetId::of(*scope, block) == set);
                SetId::all(*scope).contains(&set) && !clean
            };
            if !scopes.iter().any(may_hold) {
                continue;
            }
            for (key, _) in self.elements(set)? {
                let Some(stays) = scopes.get(&key.0) else { continue };
                let is_part = |block: &Block| {
                    SetId::of(key.0, block) == set && set_elements::keys(key.0, block).contains(&key)
                };
                if !stays.is_some_and(is_part) {
                    strays.push((set, key));
                }
            }
        }
        for strays in strays.chunks(SWEPT) {
            let mut keys = Keys::new();
            for (set, key) in strays {
                keys.entry(*set).or_default().insert(*key);
            }
            match self.commit("unblock", elements::delete_if_there(&keys))? {
                // Without its set or its table nothing is blocked.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(refused("unblock", errno)),
            }
        }
        Ok(())
    }

    /// Puts blocks in place, and says of each how it went.
    fn put_batch(&mut self, batch: &[Put<'_>]) -> Vec<Result<(), Error>> {
        match self.put(batch) {
            // The kernel objects to one of them: each is tried alone. Anything else is wrong with all.
            Err(Error::System(SystemError::Refused { .. }) | Error::Full { .. }) if batch.len() > 1 => {}
            result => return vec![result; batch.len()],
        }
        // What is in a full set already finds room there; nothing else does, and need not be tried.
        let mut full: HashMap<SetId, Error> = HashMap::new();
        let put = |put: &Put<'_>| match full.get(&put.set()) {
            Some(error) if put.was.is_none() => Err(error.clone()),
            _ => self.put(slice::from_ref(put)).inspect_err(|error| {
                if matches!(error, Error::Full { .. }) {
                    full.insert(put.set(), error.clone());
                }
            }),
        };
        batch.iter().map(put).collect()
    }

    /// Puts blocks in place, together.
    fn put(&mut self, batch: &[Put<'_>]) -> Result<(), Error> {
        let mut done = self.put_once(batch)?;
        if done == Err(Errno::ENOENT) {
            // Somebody flushed the ruleset just now.
            self.generation = None;
            done = self.put_once(batch)?;
        }
        match (done, batch) {
            (Ok(()), _) => {}
            (Err(Errno::ENFILE), [put, ..]) => {
                return Err(Error::Full { what: format!("nft's set {}", put.set().name()), size: SIZE });
            }
            (Err(errno), _) => return Err(refused("block", errno)),
        }
        // Of what is damaged, elements may be left that nobody knows of.
        let damaged = batch.iter().filter(|put| put.was.is_some_and(|was| was.damaged));
        let damaged: HashMap<Prefix, Option<&Block>> =
            damaged.map(|put| (put.scope, Some(put.block))).collect();
        if damaged.is_empty() { Ok(()) } else { self.sweep(&damaged) }
    }

    /// The inner error: the kernel changed nothing. A timeout counts from when the kernel gets it, and what is made before that
    /// takes time: so the clock is asked late.
    fn put_once(&mut self, batch: &[Put<'_>]) -> Result<Result<(), Errno>, Error> {
        let added = Put::added(batch);
        self.ensure_unchanged(&added.keys().copied().collect())?;
        // In one transaction with what is added: a source of which only ports are blocked from now on is never blocked as a
        // whole beside that, and one that was unproven is never without a block.
        let mut replaced = Put::replaced(batch);
        replaced.retain(|set, _| self.sets.contains(set));
        if replaced.is_empty() {
            // To the kernel this is a third of the work. That something was there after all costs 16 ms (measured).
            match self.commit("block", elements::add(&added, Timestamp::now()))? {
                // Some kernels say that a set is full before they say that the element is there.
                Err(Errno::EEXIST | Errno::ENFILE) => {}
                done => return Ok(done),
            }
        }
        self.commit("block", elements::replace(replaced, &added, Timestamp::now()))
    }
}
