//! Transactions: elements that are added to sets and deleted, all of them or none. Builds messages, sends none; `decode.rs` reads
//! what the kernel answers.

use std::time::Duration;

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader,
    NetlinkSerializable,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use psentry_linux::Request;
use psentry_linux::netlink_attributes::{nest, put};

use crate::notification::Family;
use crate::uapi::*;

/// How long a list of elements may become before another one is begun, in bytes: an attribute holds less than 64 KiB, and an
/// element with its comment takes a few hundred.
const LIST: usize = 48 * 1024;

/// An element that is to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewElement {
    /// What the kernel compares.
    pub key: Vec<u8>,
    /// How long it stays; `None`: for ever.
    pub timeout: Option<Duration>,
    /// Its comment, of at most 253 bytes.
    pub comment: Option<String>,
}

/// What is done to a table in one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    table: &'static str,
    /// Each message with its flags.
    messages: Vec<(NetfilterMessage, u16)>,
}

impl Transaction {
    /// One that does nothing yet to a table of the family `inet`.
    #[must_use]
    pub fn new(table: &'static str) -> Self {
        Transaction { table, messages: Vec::new() }
    }

    /// Adds elements; what is there stays as it is.
    pub fn add(&mut self, set: &str, elements: impl IntoIterator<Item = NewElement>) {
        self.push_lists(NFT_MSG_NEWSETELEM, NLM_F_CREATE, set, elements);
    }

    /// Adds elements, none of which may be there.
    pub fn add_new(&mut self, set: &str, elements: impl IntoIterator<Item = NewElement>) {
        self.push_lists(NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, set, elements);
    }

    /// Deletes the elements with these keys, all of which have to be there.
    pub fn delete(&mut self, set: &str, keys: impl IntoIterator<Item = Vec<u8>>) {
        let bare = keys.into_iter().map(|key| NewElement { key, ..NewElement::default() });
        self.push_lists(NFT_MSG_DELSETELEM, 0, set, bare);
    }

    /// Deletes the table, with all that is in it.
    pub fn delete_table(&mut self) {
        self.messages.push((on_table(NFT_MSG_DELTABLE, self.table), 0));
    }

    /// How many bytes its messages take, without those that begin and end a transaction.
    #[must_use]
    pub fn length(&self) -> usize {
        let header = NetlinkHeader::default().buffer_len();
        self.messages.iter().map(|(message, _)| header + NetlinkSerializable::buffer_len(message)).sum()
    }

    fn push_lists(
        &mut self,
        message_type: u8,
        flags: u16,
        set: &str,
        elements: impl IntoIterator<Item = NewElement>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let mut list = Vec::new();
            while let Some(element) = elements.next_if(|_| list.len() < LIST) {
                nest(&mut list, NFTA_LIST_ELEM, |bytes| element.write(bytes));
            }
            self.messages.push((on_elements(message_type, self.table, set, list), flags));
        }
    }

    /// As requests of one batch.
    pub(crate) fn into_requests(self) -> Vec<Request<NetfilterMessage>> {
        let frame = |message| Request { message: frame(message), flags: NLM_F_REQUEST, acked: false };
        let mut requests = vec![frame(ControlMessage::BatchBegin)];
        // Errors are reported, asked for or not, and of success one acknowledgement is enough: of thousands the kernel has
        // room for some hundreds.
        let last = self.messages.len();
        let numbered = self.messages.into_iter().zip(1..);
        requests.extend(numbered.map(|((message, flags), n)| Request { message, flags, acked: n == last }));
        requests.push(frame(ControlMessage::BatchEnd));
        requests
    }
}

impl NewElement {
    /// In nft's order of attributes.
    fn write(&self, bytes: &mut Vec<u8>) {
        if let Some(timeout) = self.timeout {
            // To the kernel 0 means: without end.
            let millis = u64::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
            put(bytes, NFTA_SET_ELEM_TIMEOUT, &millis.to_be_bytes());
        }
        nest(bytes, NFTA_SET_ELEM_KEY, |bytes| put(bytes, NFTA_DATA_VALUE, &self.key));
        if let Some(comment) = &self.comment {
            put(bytes, NFTA_SET_ELEM_USERDATA, &userdata(comment));
        }
    }
}

/// nft's form of a comment: type, length with the final NUL, text, NUL.
fn userdata(text: &str) -> Vec<u8> {
    let mut data = vec![UDATA_COMMENT, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    data.extend(text.bytes().take(usize::from(u8::MAX) - 1));
    data.push(0);
    data
}

/// A request that names a table: for its rules or sets, for itself, or to delete it.
pub(crate) fn on_table(message_type: u8, table: &str) -> NetfilterMessage {
    request(message_type, vec![name(NFTA_TABLE, table)])
}

/// A request that names a set: for it, or for its elements.
pub(crate) fn on_set(message_type: u8, table: &str, set: &str) -> NetfilterMessage {
    request(message_type, vec![name(NFTA_TABLE, table), name(NFTA_SET, set)])
}

/// A request that names elements of a set, each an attribute in `list`.
fn on_elements(message_type: u8, table: &str, set: &str, list: Vec<u8>) -> NetfilterMessage {
    let list = DefaultNla::new(NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, list);
    request(message_type, vec![name(NFTA_TABLE, table), name(NFTA_SET, set), list])
}

/// A request for one element.
pub(crate) fn on_element(table: &str, set: &str, key: &[u8]) -> NetfilterMessage {
    let element = NewElement { key: key.to_vec(), ..NewElement::default() };
    let mut list = Vec::new();
    nest(&mut list, NFTA_LIST_ELEM, |bytes| element.write(bytes));
    on_elements(NFT_MSG_GETSETELEM, table, set, list)
}

/// A request of the family `inet`.
pub(crate) fn request(message_type: u8, attributes: Vec<DefaultNla>) -> NetfilterMessage {
    request_of(Family::Inet, message_type, attributes)
}

/// A request of a family.
pub(crate) fn request_of(family: Family, message_type: u8, attributes: Vec<DefaultNla>) -> NetfilterMessage {
    let family = match family {
        Family::Inet => NetfilterProtoFamily::Inet,
        Family::Ipv4 => NetfilterProtoFamily::IPv4,
        Family::Ipv6 => NetfilterProtoFamily::IPv6,
    };
    let subsys = NetfilterSubsystem::NfTables;
    let inner = NetfilterMessageInner::Other { subsys, message_type, attributes };
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}

/// A name as an attribute.
pub(crate) fn name(kind: u16, name: &str) -> DefaultNla {
    DefaultNla::new(kind, [name.as_bytes(), &[0]].concat())
}

fn frame(message: ControlMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM.into()), message)
}

#[cfg(test)]
pub(crate) mod tests {
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};

    use super::*;

    /// The bodies of the messages, as they are sent.
    pub(crate) fn bodies(transaction: Transaction) -> Vec<Vec<u8>> {
        let body = |(message, _)| {
            let mut message = NetlinkMessage::new(Default::default(), NetlinkPayload::InnerMessage(message));
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            bytes.split_off(16)
        };
        transaction.messages.into_iter().map(body).collect()
    }

    #[test]
    fn an_element_is_what_nft_itself_sends() {
        // What nft 1.0.6 sends (strace -xx -e sendmsg) for
        // add element inet psentry v4_32 { 192.0.2.7 timeout 10m comment "x until 2026-11-22T15:14:05Z" }
        let want: &[&[u8]] = &[
            b"\x01\0\0\0",
            b"\x0c\0\x01\0psentry\0",
            b"\x0a\0\x02\0v4_32\0\0\0",
            b"\x44\0\x03\x80",
            b"\x40\0\x01\x80",
            b"\x0c\0\x04\0\0\0\0\0\0\x09\x27\xc0",
            b"\x0c\0\x01\x80\x08\0\x01\0\xc0\0\x02\x07",
            b"\x23\0\x06\0\0\x1dx until 2026-11-22T15:14:05Z\0\0",
        ];
        let mut transaction = Transaction::new("psentry");
        let comment = Some("x until 2026-11-22T15:14:05Z".to_owned());
        let timeout = Some(Duration::from_secs(600));
        transaction.add("v4_32", [NewElement { key: vec![192, 0, 2, 7], timeout, comment }]);
        assert_eq!(bodies(transaction), [want.concat()]);
    }

    #[test]
    fn what_is_deleted_is_named_by_its_key_alone() {
        // What nft 1.0.6 sends for add element inet t a { 1.2.3.4 . tcp . 22 timeout 10m comment "x" }
        let want: &[&[u8]] = &[b"\x14\0\x01\x80", b"\x10\0\x01\0\x01\x02\x03\x04\x06\0\0\0\0\x16\0\0"];
        let mut transaction = Transaction::new("t");
        transaction.delete("a", [vec![1, 2, 3, 4, 6, 0, 0, 0, 0, 22, 0, 0]]);
        assert!(bodies(transaction)[0].ends_with(&want.concat()));
    }

    #[test]
    fn a_long_list_is_split_and_its_last_message_alone_is_acknowledged() {
        let mut transaction = Transaction::new("t");
        let element = |n: u16| NewElement {
            key: vec![0; 16],
            timeout: Some(Duration::ZERO),
            comment: Some("x".repeat(usize::from(n % 253))),
        };
        transaction.add_new("a", (0..2000).map(element));
        transaction.delete("a", []);
        let acked: Vec<bool> =
            transaction.clone().into_requests().iter().map(|request| request.acked).collect();
        let bodies = bodies(transaction);
        assert!(bodies.len() > 5 && bodies.iter().all(|body| body.len() < usize::from(u16::MAX)));
        let elements = |body: &Vec<u8>| crate::decode::elements(body).count();
        assert_eq!(bodies.iter().map(elements).sum::<usize>(), 2000);
        assert_eq!(acked.len(), bodies.len() + 2);
        assert_eq!(acked.iter().position(|acked| *acked), Some(bodies.len()));
    }
}
