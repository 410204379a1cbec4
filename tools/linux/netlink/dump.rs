//! Requests that are answered with messages: dumps (NLM_F_DUMP), and queries for one thing.

use std::time::Instant;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkPayload, NetlinkSerializable,
};
use nix::errno::Errno;

use crate::error::Error;
use crate::netlink::{NetlinkSocket, error_code, split_message};

/// How often a dump is tried that changes while it is read (NLM_F_DUMP_INTR).
const TRIES: usize = 5;

impl NetlinkSocket {
    /// Asks for all of something. `doing` is for error messages: what was asked for, as a verb and its object.
    ///
    /// # Errors
    /// When the kernel does not answer in time, or with what cannot be read, or the list changed at every try. The
    /// kernel's refusal is the inner error.
    pub fn dump<M>(&mut self, doing: &'static str, request: &M) -> Result<Result<Vec<M>, Errno>, Error>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Clone,
    {
        self.dump_with(doing, request, deserialize)
    }

    /// As [`dump`](Self::dump), with each message read by `read`.
    ///
    /// # Errors
    /// As those of `dump`.
    pub fn dump_with<M, T>(
        &mut self,
        doing: &'static str,
        request: &M,
        read: impl Fn(&NetlinkHeader, &[u8]) -> Result<T, String>,
    ) -> Result<Result<Vec<T>, Errno>, Error>
    where
        M: NetlinkSerializable + Clone,
    {
        for _ in 0..TRIES {
            self.outgoing.clear();
            self.append(NetlinkPayload::InnerMessage(request.clone()), NLM_F_REQUEST | NLM_F_DUMP);
            self.send(doing)?;
            match self.collect(doing, &read)? {
                Ok(Some(list)) => return Ok(Ok(list)),
                Ok(None) => {}
                Err(errno) => return Ok(Err(errno)),
            }
        }
        Err(Error::Netlink { doing, why: "the list changed whenever it was read".to_owned() })
    }

    /// Asks for one thing, which may be answered with several messages or with none.
    ///
    /// # Errors
    /// As those of [`dump`](Self::dump).
    pub fn query<M>(&mut self, doing: &'static str, request: &M) -> Result<Result<Vec<M>, Errno>, Error>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Clone,
    {
        self.query_with(doing, request, deserialize)
    }

    /// As [`query`](Self::query), with each message read by `read`.
    ///
    /// # Errors
    /// As those of `dump`.
    pub fn query_with<M, T>(
        &mut self,
        doing: &'static str,
        request: &M,
        read: impl Fn(&NetlinkHeader, &[u8]) -> Result<T, String>,
    ) -> Result<Result<Vec<T>, Errno>, Error>
    where
        M: NetlinkSerializable + Clone,
    {
        self.outgoing.clear();
        self.append(NetlinkPayload::InnerMessage(request.clone()), NLM_F_REQUEST | NLM_F_ACK);
        self.send(doing)?;
        Ok(self.collect(doing, &read)?.map(Option::unwrap_or_default))
    }

    /// Receives the answer to the last request up to its end; `None`: the kernel says that it is not consistent
    /// (NLM_F_DUMP_INTR).
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
            while let Some((header, payload, after)) = split_message(rest) {
                rest = after;
                // The rest of an answer that was given up on, when its time was over.
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

/// A message as the crate of its protocol reads it.
fn deserialize<M: NetlinkDeserializable>(header: &NetlinkHeader, payload: &[u8]) -> Result<M, String> {
    M::deserialize(header, payload).map_err(|error| error.to_string())
}
