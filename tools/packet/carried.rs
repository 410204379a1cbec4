//! What an IP header carries: past the extension headers, one at a time, each checked on its own. etherparse's
//! iterator over all of them trusts what a truncated packet says, and reads beyond its end.

use etherparse::{IpAuthHeaderSlice, IpNumber, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice};

use crate::packet::Transport;

/// What is left of a packet.
pub(crate) struct Carried<'a> {
    /// Whether it follows a header of IPv6. The numbers of its extension headers mean nothing in IPv4, but for the
    /// authentication header.
    pub(crate) v6: bool,
    /// Which protocol it begins with.
    pub(crate) protocol: IpNumber,
    /// Where in the whole packet this piece begins.
    pub(crate) offset: u16,
    /// Whether it is a piece.
    pub(crate) fragment: bool,
    /// Its bytes; `None`: a header before them is cut off.
    pub(crate) rest: Option<&'a [u8]>,
}

/// The bytes from `from` to `to`, or to the end where the length field lies.
pub(crate) fn bounded(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    let to = if to <= from { bytes.len() } else { to.min(bytes.len()) };
    bytes.get(from..to).unwrap_or_default()
}

impl Carried<'_> {
    /// Steps over extension headers. Ends, since each is at least eight bytes long.
    pub(crate) fn past_extensions(mut self) -> Self {
        while let Some(rest) = self.rest {
            // After a first piece there are no headers, only bytes from the middle of something.
            if self.offset != 0 {
                return self;
            }
            let step = match self.protocol {
                IpNumber::IPV6_HEADER_HOP_BY_HOP
                | IpNumber::IPV6_ROUTE_HEADER
                | IpNumber::IPV6_DESTINATION_OPTIONS
                    if self.v6 =>
                {
                    Ipv6RawExtHeaderSlice::from_slice(rest)
                        .ok()
                        .map(|header| (header.next_header(), header.slice().len()))
                }
                IpNumber::IPV6_FRAGMENTATION_HEADER if self.v6 => {
                    Ipv6FragmentHeaderSlice::from_slice(rest).ok().map(|header| {
                        self.offset = header.fragment_offset().value();
                        self.fragment |= header.is_fragmenting_payload();
                        (header.next_header(), header.slice().len())
                    })
                }
                IpNumber::AUTHENTICATION_HEADER => IpAuthHeaderSlice::from_slice(rest)
                    .ok()
                    .map(|header| (header.next_header(), header.slice().len())),
                _ => return self,
            };
            self.rest = step.and_then(|(next, length)| {
                self.protocol = next;
                rest.get(length..)
            });
        }
        self
    }

    /// The transport, as far as it is there.
    pub(crate) fn transport(&self) -> Transport {
        match self.rest {
            Some(rest) if self.offset == 0 => Transport::read(self.protocol, rest),
            _ => Transport::Partial { protocol: self.protocol.0, ports: None },
        }
    }
}
