//! The trap of the service is asked: root sees and ends a quarantine without a flag, the group psentry sees it, nobody else does.

use super::{GUARD, SCANNER, guard_and_scanner, install_to_block};
use crate::lab::{Booted, wait_until};

const PSENTRY: &str = "/opt/psentry/bin/psentry";

#[test]
fn a_quarantine_is_seen_by_the_group_and_ended_by_root() {
    if !Booted::possible() {
        return;
    }
    let (guard, scanner) = guard_and_scanner();
    install_to_block(&guard);
    guard.sh("useradd --no-create-home --groups psentry member; useradd --no-create-home stranger
              systemctl restart psentry.target");
    wait_until("the trap is up", || guard.ok("systemctl is-active psentry-trap"));
    assert_eq!(
        guard.sh("stat -c '%a %G' /run/psentry-trap /run/psentry-trap/control"),
        "755 psentry\n660 psentry\n"
    );
    scanner.run(&["nmap", "-n", "-Pn", "-sS", "--max-retries", "0", "-p4444", GUARD]);
    wait_until("it is in quarantine", || scanner.is_shut_out(GUARD, 8080));
    wait_until("it is in the log", || guard.sh(&format!("{PSENTRY} list")).contains("touched 4444/tcp"));
    let list = guard.sh(&format!("{PSENTRY} list"));
    assert!(list.starts_with(&format!("{SCANNER}  trap, ")), "{list}");
    let why = guard.sh(&format!("{PSENTRY} why {SCANNER}"));
    assert!(why.contains(&format!("to let it in: psentry unblock {SCANNER}\n")), "{why}");

    let as_user = |user: &str, line: &str| {
        guard.run(&format!("exec setpriv --reuid {user} --init-groups {line}")).status.code()
    };
    for line in ["/usr/local/bin/psentry-trap list", "/usr/local/bin/psentry-trap status"] {
        assert_eq!(as_user("member", line), Some(0), "{line}");
        assert_eq!(as_user("stranger", line), Some(77), "{line}");
    }
    let unblock = format!("{PSENTRY} unblock {SCANNER}");
    for user in ["member", "stranger"] {
        assert_eq!(as_user(user, &unblock), Some(77), "{user}");
    }
    assert!(scanner.is_shut_out(GUARD, 8080));
    let said = guard.sh(&unblock);
    assert!(said.contains(&format!("{SCANNER}/32 by trap: released")), "{said}");
    assert!(scanner.reaches(GUARD, 8080), "at once");
    // It is there again after a restart, and gone after a stop.
    guard.sh("systemctl restart psentry-trap");
    wait_until("it answers again", || guard.ok("/usr/local/bin/psentry-trap list"));
    guard.sh("systemctl stop psentry-trap");
    assert!(!guard.ok("test -e /run/psentry-trap"));
}
