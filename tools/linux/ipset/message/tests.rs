//! Messages of ipset, byte by byte.

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};

use super::*;

fn bytes(message: NetfilterMessage) -> Vec<u8> {
    let mut message = NetlinkMessage::new(Default::default(), NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes.split_off(16)
}

fn key(scope: &str, port: Option<(u8, u16)>) -> SetKey {
    (scope.parse().unwrap(), port)
}

#[test]
fn the_numbers_of_a_header_are_read() {
    let mut message = vec![2, 0, 0, 0];
    put(&mut message, NAME, b"psentry4\0");
    nest(&mut message, DATA, |data| {
        put(data, 18 | NET_BYTEORDER, &1024u32.to_be_bytes());
        put(data, SIZE | NET_BYTEORDER, &65536u32.to_be_bytes());
        put(data, ELEMENTS | NET_BYTEORDER, &7u32.to_be_bytes());
        put(data, TIMEOUT | NET_BYTEORDER, &0u32.to_be_bytes());
        put(data, ITS_FLAGS | NET_BYTEORDER, &WITH_COMMENT.to_be_bytes());
    });
    assert_eq!(header(&message), Some(SetHeader { entries: 7, size: 65536, keeps_notes: true }));
    assert_eq!(header(&[2, 0]), None);
}

#[test]
fn an_element_is_what_ipset_itself_sends() {
    // What ipset 7.17 sends (strace -xx -e sendto) for
    // add psentry4_ports 192.0.2.0/24,tcp:22 timeout 600 comment x
    // but for the newer version, and the number of a line at the end, of which there is none.
    let want: &[&[u8]] = &[
        b"\x02\0\0\0\x05\0\x01\0\x06\0\0\0",
        b"\x13\0\x02\0psentry4_ports\0\0",
        b"\x38\0\x07\x80\x0c\0\x01\x80\x08\0\x01\x40\xc0\0\x02\0",
        b"\x05\0\x03\0\x18\0\0\0\x06\0\x04\x40\0\x16\0\0",
        b"\x08\0\x06\x40\0\0\x02\x58\x05\0\x07\0\x06\0\0\0\x06\0\x1a\0x\0\0\0",
    ];
    let got = bytes(add("psentry4_ports", key("192.0.2.0/24", Some((6, 22))), 600, "x"));
    assert_eq!(got, want.concat());
}

#[test]
fn elements_are_read_back_and_exceptions_are_known() {
    let keys = [key("192.0.2.0/24", None), key("2001:db8::/64", Some((17, 53))), key("::ffff:0:0/90", None)];
    let mut message = vec![2, 0, 0, 0];
    nest(&mut message, ELEMENTS_OF, |list| {
        for key in keys {
            nest(list, DATA, |data| {
                data.extend(words(key, Some(60)));
                put(data, COMMENT, b"fan\0");
            });
        }
        nest(list, DATA, |data| {
            data.extend(words(keys[0], None));
            put(data, ITS_FLAGS | NET_BYTEORDER, &NO_MATCH.to_be_bytes());
        });
    });
    let kept = |key| SetElement { key, seconds: 60, comment: Some("fan".to_owned()), exception: false };
    let exception = SetElement { key: keys[0], seconds: 0, comment: None, exception: true };
    assert_eq!(elements(&message), [&keys.map(kept)[..], &[exception]].concat());
    assert_eq!(elements(&message[..20]), []);
}
