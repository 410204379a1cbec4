//! What is a change by others and what is not, on messages as the kernel sends them.

use super::*;
use crate::notification::tests::{about, end, header};
use crate::uapi::*;

const OWN: u32 = 7;
const NFT: u32 = 4711;

/// Those of a table of ours, where the elements of the set `facts` count.
fn transactions() -> Transactions<impl Fn(Object<'_>) -> bool> {
    Transactions::new("psentry", Some(OWN), |object| match object {
        Object::Elements(set) => set == "facts",
        object => object != Object::Other,
    })
}

/// A transaction of a process with this port id, which changes these objects of sets of our table.
fn transaction(read: &mut Transactions<impl Fn(Object<'_>) -> bool>, portid: u32, changes: &[(u8, &str)]) {
    let from = |kind| {
        let mut header = header(kind);
        header.port_number = portid;
        header
    };
    for (kind, set) in changes {
        read.read(&from(*kind), &about(NFPROTO_INET, "psentry", set));
        assert_eq!(read.change, None, "it is not over yet");
    }
    read.read(&from(NFT_MSG_NEWGEN), &end(b"nft\0"));
}

fn by_nft(deleted: bool) -> Option<TableChange> {
    Some(TableChange::Transaction { author: Some("'nft' (process 9)".to_owned()), deleted })
}

#[test]
fn whatever_others_change_is_reported_once_the_transaction_is_over() {
    for (changes, deleted) in [
        (&[(NFT_MSG_DELRULE, "")][..], false),
        (&[(NFT_MSG_NEWRULE, "")], false),
        (&[(NFT_MSG_NEWCHAIN, "")], false),
        (&[(NFT_MSG_NEWTABLE, "")], false),
        (&[(NFT_MSG_DELSETELEM, "facts")], false),
        (&[(NFT_MSG_NEWSETELEM, "blocked"), (NFT_MSG_NEWSETELEM, "facts")], false),
        (&[(NFT_MSG_DELRULE, ""), (NFT_MSG_DELCHAIN, ""), (NFT_MSG_DELTABLE, "")], true),
        // Made anew at once, but not by us.
        (&[(NFT_MSG_DELTABLE, ""), (NFT_MSG_NEWTABLE, "")], false),
    ] {
        let mut read = transactions();
        transaction(&mut read, NFT, changes);
        assert_eq!(read.change.take(), by_nft(deleted), "{changes:?}");
        transaction(&mut read, NFT, &[]);
        assert_eq!(read.change, None, "the next transaction is another one");
    }
}

#[test]
fn our_own_changes_other_tables_and_what_does_not_count_are_not_reported() {
    let mut read = transactions();
    transaction(&mut read, OWN, &[(NFT_MSG_DELRULE, "")]);
    transaction(&mut read, NFT, &[(NFT_MSG_DELSETELEM, "blocked"), (9, "mine")]);
    for (family, table) in [(NFPROTO_INET, "filter"), (NFPROTO_IPV4, "psentry"), (NFPROTO_INET, "")] {
        read.read(&header(NFT_MSG_DELRULE), &about(family, table, ""));
    }
    read.read(&header(NFT_MSG_DELRULE), &[]);
    transaction(&mut read, NFT, &[]);
    assert_eq!(read.change, None);
}

#[test]
fn one_transaction_is_that_of_our_own_nft_and_a_second_one_is_not() {
    let mut read = transactions();
    read.own = 1;
    transaction(&mut read, NFT, &[(NFT_MSG_NEWSETELEM, "blocked")]);
    assert_eq!(read.own, 1, "it changed nothing that counts");
    transaction(&mut read, NFT, &[(NFT_MSG_DELRULE, "")]);
    assert_eq!(read.change, None);
    transaction(&mut read, NFT, &[(NFT_MSG_DELRULE, "")]);
    assert_eq!(read.change, by_nft(false));
}

#[test]
fn after_a_loss_anybody_may_have_changed_anything() {
    let mut read = transactions();
    read.own = 1;
    read.read(&header(NFT_MSG_DELRULE), &about(NFPROTO_INET, "psentry", ""));
    read.lost();
    assert_eq!(read.change.take(), Some(TableChange::Unknown));
    transaction(&mut read, NFT, &[]);
    assert_eq!(read.change, None);
    transaction(&mut read, NFT, &[(NFT_MSG_DELRULE, "")]);
    assert_eq!(read.change, by_nft(false), "it is not taken for our own");
}
