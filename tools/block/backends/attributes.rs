//! Attributes of netlink messages, read and written byte by byte, for what comes in thousands: the crates put each of
//! them into words of their own, which costs more than the kernel does. Knows their envelope only (netlink(7)).

use netlink_packet_core::{NLA_HEADER_SIZE, NlasIterator};

/// The flag of an attribute that holds attributes.
const NESTED: u16 = 0x8000;

/// Attributes with their kinds, up to the first that is broken.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        // The buffer goes on with what comes after the attribute.
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}

/// The first attribute of a kind.
pub(super) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A text without the NUL at its end.
pub(super) fn text(value: &[u8]) -> &[u8] {
    value.strip_suffix(&[0]).unwrap_or(value)
}

/// Appends an attribute.
pub(super) fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    envelop(bytes, kind, |bytes| bytes.extend_from_slice(value));
}

/// Appends an attribute that holds what `inside` appends.
pub(super) fn nest(bytes: &mut Vec<u8>, kind: u16, inside: impl FnOnce(&mut Vec<u8>)) {
    envelop(bytes, kind | NESTED, inside);
}

fn envelop(bytes: &mut Vec<u8>, kind: u16, inside: impl FnOnce(&mut Vec<u8>)) {
    let at = bytes.len();
    bytes.extend_from_slice(&[0; NLA_HEADER_SIZE]);
    inside(bytes);
    // Whoever appends more than 64 KiB is refused by the kernel.
    let length = u16::try_from(bytes.len() - at).unwrap_or(u16::MAX);
    let [a, b] = length.to_ne_bytes();
    let [c, d] = kind.to_ne_bytes();
    if let Some(header) = bytes.get_mut(at..at + NLA_HEADER_SIZE) {
        header.copy_from_slice(&[a, b, c, d]);
    }
    // The next one begins at a multiple of four bytes.
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
    fn what_is_broken_ends_the_list() {
        for bytes in [&[][..], &[1], &[200, 0, 3, 128], &[3, 0, 1, 0]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }
}
