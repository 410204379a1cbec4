//! Attributes of netlink messages (`struct nlattr` of netlink(7)), read from bytes and appended to bytes. For messages that
//! come in thousands: the crates of the protocols allocate a value for each attribute, which costs more time than the
//! kernel takes for the whole message. What the attributes mean is the caller's.

use netlink_packet_core::{NLA_F_NESTED, NLA_HEADER_SIZE, NlasIterator};

/// The attributes in `bytes` as their types and values, up to the first that is malformed. The flags NLA_F_NESTED and
/// NLA_F_NET_BYTEORDER are no part of the type.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        // The buffer goes on with what comes after the attribute.
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}

/// The value of the first attribute of the type `wanted`.
#[must_use]
pub fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A value that is a string, without the NUL that ends it.
#[must_use]
pub fn text(value: &[u8]) -> &[u8] {
    value.strip_suffix(&[0]).unwrap_or(value)
}

/// Appends an attribute, padded to a multiple of four bytes.
pub fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    envelop(bytes, kind, |bytes| bytes.extend_from_slice(value));
}

/// Appends an attribute that contains the attributes which `inside` appends (NLA_F_NESTED).
pub fn nest(bytes: &mut Vec<u8>, kind: u16, inside: impl FnOnce(&mut Vec<u8>)) {
    envelop(bytes, kind | NLA_F_NESTED, inside);
}

fn envelop(bytes: &mut Vec<u8>, kind: u16, inside: impl FnOnce(&mut Vec<u8>)) {
    let at = bytes.len();
    bytes.extend_from_slice(&[0; NLA_HEADER_SIZE]);
    inside(bytes);
    // The kernel refuses a value of more than 64 KiB, whose length has no room in the header.
    let length = u16::try_from(bytes.len() - at).unwrap_or(u16::MAX);
    let [a, b] = length.to_ne_bytes();
    let [c, d] = kind.to_ne_bytes();
    if let Some(header) = bytes.get_mut(at..at + NLA_HEADER_SIZE) {
        header.copy_from_slice(&[a, b, c, d]);
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        put(&mut bytes, 1, b"odd");
        nest(&mut bytes, 2, |bytes| {
            put(bytes, 7, b"psentry\0");
            put(bytes, 8, &[]);
        });
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(read[0].1, b"odd");
        assert_eq!(attribute(read[1].1, 7).map(text), Some(&b"psentry"[..]));
        assert_eq!(attribute(read[1].1, 9), None);
    }

    #[test]
    fn what_is_malformed_ends_the_list() {
        for bytes in [&[][..], &[1], &[200, 0, 3, 128], &[3, 0, 1, 0]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }
}
