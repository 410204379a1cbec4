//! Who counts as logged in, tried with connections and moments that are made up.

use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(180);

fn at(addr: &str, cookie: u8) -> (Use, Socket) {
    let socket = Socket {
        local_addr: "198.51.100.1".parse().unwrap(),
        local_port: 22,
        remote_addr: addr.parse().unwrap(),
        remote_port: 40_000,
        mark: None,
        transparent: false,
        cookie: [cookie; 8],
    };
    (Use::Login, socket)
}

/// These connections stand, and people are logged in from there by the record, if there is one.
fn sight(sessions: &mut Sessions, now: Instant, connections: &[(Use, Socket)], record: Option<&[&str]>) {
    let record = record.map(|addrs| addrs.iter().map(|addr| addr.parse().unwrap()).collect());
    sessions.heed_record(record);
    sessions.note(now, connections.to_vec());
}

fn scope(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Sessions that have looked once, when nothing stood.
fn looked() -> (Sessions, Instant) {
    let (mut sessions, now) = (Sessions::new(GRACE), Instant::now());
    sessions.note(now, Vec::new());
    (sessions, now)
}

#[test]
fn who_is_on_record_is_logged_in_at_once_and_a_prefix_that_holds_him_is_spared() {
    let (mut sessions, now) = looked();
    sight(&mut sessions, now, &[at("192.0.2.7", 1)], Some(&["192.0.2.7"]));
    assert_eq!(
        sessions.refusal(scope("192.0.2.0/24"), now).unwrap(),
        "192.0.2.0/24 holds 192.0.2.7, which is logged in on port 22; it is blocked when that has ended"
    );
    assert!(sessions.refusal(scope("::ffff:192.0.2.7"), now).is_some());
    for other in ["192.0.2.8", "192.0.3.0/24", "2001:db8::/32"] {
        assert_eq!(sessions.refusal(scope(other), now), None, "{other}");
    }
    // The record outlives the connection, as with tmux: only who is connected is logged in.
    sight(&mut sessions, now, &[], Some(&["192.0.2.7"]));
    assert_eq!(sessions.refusal(scope("192.0.2.7"), now), None);
}

#[test]
fn whoever_holds_a_connection_is_a_stranger_until_it_is_older_than_a_stranger_s() {
    let (mut sessions, start) = looked();
    let mut refused = |after: Duration| {
        sight(&mut sessions, start + after, &[at("192.0.2.7", 1)], Some(&[]));
        sessions.refusal(scope("192.0.2.7"), start + after).is_some()
    };
    let second = Duration::from_secs(1);
    assert!(!refused(second) && !refused(GRACE) && refused(GRACE + second));
}

#[test]
fn what_stood_before_anybody_looked_is_a_login() {
    let (mut sessions, now) = (Sessions::new(GRACE), Instant::now());
    sight(&mut sessions, now, &[at("2001:db8::7", 1)], Some(&[]));
    assert!(sessions.refusal(scope("2001:db8::/64"), now).is_some());
}

/// Without a record a young connection is spared, but not the ones that are opened after it.
#[test]
fn nobody_protects_himself_by_one_connection_after_the_other() {
    let (mut sessions, start) = looked();
    let mut refused = |second: u64, cookies: &[u8]| {
        let now = start + Duration::from_secs(second);
        let connections: Vec<_> = cookies.iter().map(|cookie| at("192.0.2.7", *cookie)).collect();
        sight(&mut sessions, now, &connections, None);
        sessions.refusal(scope("192.0.2.7"), now)
    };
    let first = refused(10, &[1]).unwrap();
    assert!(first.contains("which may be logging in on port 22"), "{first}");
    assert!(refused(60, &[1, 2]).is_some());
    assert_eq!(refused(130, &[2, 3]), None);
    assert_eq!(refused(140, &[3]), None);
    // But one that stays for so long has logged in.
    assert!(refused(130 + GRACE.as_secs(), &[3]).is_some());
    // When all have gone, so has the doubt.
    assert_eq!(refused(500, &[]), None);
    assert!(refused(510, &[4]).is_some());
}

#[test]
fn resolvers_and_time_servers_are_spared_while_they_are_asked() {
    let (mut sessions, now) = looked();
    let asked = |what, addr: &str, remote_port| {
        let (_, connection) = at(addr, 1);
        (what, Socket { local_port: 40_000, remote_port, ..connection })
    };
    let connections = [asked(Use::Names, "192.0.2.53", 853), asked(Use::Time, "192.0.2.123", 123)];
    sight(&mut sessions, now, &connections, Some(&[]));
    for (scope, why) in [
        ("192.0.2.53", "192.0.2.53/32 is 192.0.2.53, a resolver that this machine is asking on port 853"),
        ("192.0.2.123", "192.0.2.123/32 is 192.0.2.123, a time server that this machine is asking"),
    ] {
        let said = sessions.refusal(scope.parse().unwrap(), now).unwrap();
        assert!(said.starts_with(why), "{said}");
    }
    sight(&mut sessions, now, &[], Some(&[]));
    assert_eq!(sessions.refusal(scope("192.0.2.0/24"), now), None);
}

proptest! {
    /// Whatever a scanner opens and sshd ends, once all that stood when he was to be shut out has gone he is.
    #[test]
    fn a_stranger_is_spared_for_at_most_one_grace(
        opened in prop::collection::vec((0u64..400, 1u64..125), 1..12), verdict in 0u64..300, record: bool
    ) {
        let (mut sessions, start) = looked();
        let mut spared = 0;
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            let connections: Vec<_> = (1..)
                .zip(&opened)
                .filter(|(_, (from, long))| (*from..from + long).contains(&second))
                .map(|(cookie, _)| at("192.0.2.7", cookie))
                .collect();
            sight(&mut sessions, now, &connections, record.then_some(&[]));
            if second < verdict {
                continue;
            }
            match sessions.refusal(scope("192.0.2.7"), now) {
                Some(_) => spared += 1,
                None => break,
            }
        }
        prop_assert!(spared <= if record { 0 } else { 125 }, "{spared} s");
    }
}
