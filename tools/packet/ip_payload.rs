//! What follows an IP header: extension headers are skipped one at a time, each checked on its own. etherparse's
//! iterator over all of them trusts the lengths in a truncated packet, and reads beyond its end. What the transport
//! header means is in `transport.rs`.

use etherparse::{IpAuthHeaderSlice, IpNumber, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice};

use crate::transport::Transport;

/// The part of a packet that follows the headers which have been read.
pub(crate) struct IpPayload<'a> {
    /// Whether it follows a header of IPv6. The numbers of its extension headers mean nothing in IPv4, but for the
    /// authentication header.
    pub(crate) v6: bool,
    /// The protocol of the header that it begins with.
    pub(crate) protocol: IpNumber,
    /// The fragment offset, in units of eight bytes: 0 in the first fragment and in a whole packet.
    pub(crate) offset: u16,
    /// Whether it is a fragment, the first one included.
    pub(crate) is_fragment: bool,
    /// Its bytes; `None`: an extension header before them is cut off or malformed.
    pub(crate) bytes: Option<&'a [u8]>,
}

/// The bytes from `from` to `to`, or to the end where a length field claims too much, or nothing at all. A length of 0
/// is right in IPv6 jumbograms, and in packets that a network card has yet to segment.
pub(crate) fn bounded(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    let to = if to <= from { bytes.len() } else { to.min(bytes.len()) };
    bytes.get(from..to).unwrap_or_default()
}

impl IpPayload<'_> {
    /// Skips extension headers. This ends, because each is at least eight bytes long.
    pub(crate) fn skip_extension_headers(mut self) -> Self {
        while let Some(bytes) = self.bytes {
            // Later fragments begin with bytes from the middle of something, not with a header.
            if self.offset != 0 {
                return self;
            }
            let next_header = match self.protocol {
                IpNumber::IPV6_HEADER_HOP_BY_HOP
                | IpNumber::IPV6_ROUTE_HEADER
                | IpNumber::IPV6_DESTINATION_OPTIONS
                    if self.v6 =>
                {
                    Ipv6RawExtHeaderSlice::from_slice(bytes)
                        .ok()
                        .map(|header| (header.next_header(), header.slice().len()))
                }
                IpNumber::IPV6_FRAGMENTATION_HEADER if self.v6 => {
                    Ipv6FragmentHeaderSlice::from_slice(bytes).ok().map(|header| {
                        self.offset = header.fragment_offset().value();
                        self.is_fragment |= header.is_fragmenting_payload();
                        (header.next_header(), header.slice().len())
                    })
                }
                IpNumber::AUTHENTICATION_HEADER => IpAuthHeaderSlice::from_slice(bytes)
                    .ok()
                    .map(|header| (header.next_header(), header.slice().len())),
                _ => return self,
            };
            self.bytes = next_header.and_then(|(next, length)| {
                self.protocol = next;
                bytes.get(length..)
            });
        }
        self
    }

    /// The transport header, as far as it is there.
    pub(crate) fn transport(&self) -> Transport {
        match self.bytes {
            Some(bytes) if self.offset == 0 => Transport::parse(self.protocol, bytes),
            _ => Transport::Partial { protocol: self.protocol.0, ports: None },
        }
    }
}
