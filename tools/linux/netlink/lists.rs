//! Questions that are answered with more than a yes: lists, and single things.

use std::time::Instant;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkPayload, NetlinkSerializable,
};
use nix::errno::Errno;

use super::{Link, error_code, split};
use crate::error::Error;

/// How often a list that changed while it was read is read again.
const TRIES: usize = 5;

impl Link {
    /// Asks for a list. The kernel's refusal is the inner error.
    pub fn dump<M>(&mut self, doing: &'static str, question: &M) -> Result<Result<Vec<M>, Errno>, Error>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Clone,
    {
        self.dump_as(doing, question, whole)
    }

    /// Asks for a list, and has each message read by `read`.
    pub fn dump_as<M, T>(
        &mut self,
        doing: &'static str,
        question: &M,
        read: impl Fn(&NetlinkHeader, &[u8]) -> Result<T, String>,
    ) -> Result<Result<Vec<T>, Errno>, Error>
    where
        M: NetlinkSerializable + Clone,
    {
        for _ in 0..TRIES {
            self.outgoing.clear();
            self.enclose(NetlinkPayload::InnerMessage(question.clone()), NLM_F_REQUEST | NLM_F_DUMP);
            self.send(doing)?;
            match self.collect(doing, &read)? {
                Ok(Some(list)) => return Ok(Ok(list)),
                Ok(None) => {}
                Err(errno) => return Ok(Err(errno)),
            }
        }
        Err(Error::Netlink { doing, why: "the list changed whenever it was read".to_owned() })
    }

    /// Asks for one thing. The kernel's refusal is the inner error.
    pub fn query<M>(&mut self, doing: &'static str, question: &M) -> Result<Result<Vec<M>, Errno>, Error>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Clone,
    {
        self.query_as(doing, question, whole)
    }

    /// Asks for one thing, and has the answer read by `read`.
    pub fn query_as<M, T>(
        &mut self,
        doing: &'static str,
        question: &M,
        read: impl Fn(&NetlinkHeader, &[u8]) -> Result<T, String>,
    ) -> Result<Result<Vec<T>, Errno>, Error>
    where
        M: NetlinkSerializable + Clone,
    {
        self.outgoing.clear();
        self.enclose(NetlinkPayload::InnerMessage(question.clone()), NLM_F_REQUEST | NLM_F_ACK);
        self.send(doing)?;
        Ok(self.collect(doing, &read)?.map(Option::unwrap_or_default))
    }

    /// The answer to a dump; `None`: it changed while it was read.
    fn collect<T>(
        &mut self,
        doing: &'static str,
        read: &impl Fn(&NetlinkHeader, &[u8]) -> Result<T, String>,
    ) -> Result<Result<Option<Vec<T>>, Errno>, Error> {
        let mut list = Vec::new();
        let mut interrupted = false;
        let started = Instant::now();
        loop {
            self.receive(doing, started)?;
            let mut rest = self.incoming.as_slice();
            while let Some((header, payload, after)) = split(rest) {
                rest = after;
                if header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                let code = error_code(payload);
                match header.message_type {
                    netlink_packet_core::NLMSG_NOOP => {}
                    netlink_packet_core::NLMSG_ERROR | netlink_packet_core::NLMSG_DONE if code != 0 => {
                        return Ok(Err(Errno::from_raw(code)));
                    }
                    netlink_packet_core::NLMSG_ERROR | netlink_packet_core::NLMSG_DONE => {
                        return Ok(Ok((!interrupted).then_some(list)));
                    }
                    _ => list.push(read(&header, payload).map_err(|why| Error::Netlink { doing, why })?),
                }
            }
        }
    }
}

/// A message as its protocol's crate reads it.
fn whole<M: NetlinkDeserializable>(header: &NetlinkHeader, payload: &[u8]) -> Result<M, String> {
    M::deserialize(header, payload).map_err(|error| error.to_string())
}
