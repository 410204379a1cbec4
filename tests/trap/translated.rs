//! Behind NAT64 each address stands for one of IPv4: one of them that scans is one source, and no other is.

use psentry_records::Class;

use super::{probe, python, trap};
use crate::lab::{GUARD, Lab};

const SERVICE: u16 = 8088;

/// Whether a connection from an address is taken within a second. Arguments: address from, address to, port.
const FROM: &str = r#"
import socket, sys
try: socket.create_connection((sys.argv[2], int(sys.argv[3])), timeout=1, source_address=(sys.argv[1], 0)); print('taken')
except OSError: print('not taken')
"#;

/// 11.1.1.1 and 11.1.1.2, as a translator writes them (RFC 6052), and the same in a network of its operator's own.
const NETWORKS: [[&str; 2]; 2] =
    [["64:ff9b::b01:101", "64:ff9b::b01:102"], ["2001:db8:64::b01:101", "2001:db8:64::b01:102"]];

#[test]
fn one_translated_scanner_shuts_nobody_else_out() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    lab.guard.sh("mkdir /run/etc; cp -r /etc/. /run/etc/ 2> /dev/null || true; mkdir -p /run/etc/psentry
                  mount --bind /run/etc /etc
                  printf 'translator 64:ff9b::/96\\ntranslator 2001:db8:64::/96\\n' > /etc/psentry/ports");
    for address in NETWORKS.concat() {
        lab.scanner.sh(&format!("ip address add {address}/128 dev lo nodad"));
        lab.guard.sh(&format!("ip route add {address} via fe80::2 dev scanner"));
    }
    lab.guard.sh("ip neigh add fe80::2 lladdr 02:00:00:00:07:02 dev scanner");
    let mut trap = trap(&lab, &[]);
    let reaches =
        |from: &str, port: u16| python(&lab.scanner, FROM, &[from, GUARD[1], &port.to_string()]) == "taken\n";
    for [scanner, other] in NETWORKS {
        assert!(!reaches(scanner, 9));
        let found =
            probe(&mut trap, "its probe", |probe| probe.common.src_ip.unwrap().to_string() == scanner);
        assert_eq!((found.body.class, found.body.quarantine), (Some(Class::Probe), Some(30)));
        assert!(!reaches(scanner, SERVICE));
        assert!(reaches(other, SERVICE), "{other} is another host");
    }
}
