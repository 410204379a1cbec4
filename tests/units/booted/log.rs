//! The log of the shipped unit: whose it is, and that whoever writes it rotates it, also one that others meddled with.

use crate::lab::{Booted, wait_until};

const LOG: &str = "/var/log/psentry/records.jsonl";

/// Each time the blocker is asked to report, it writes a record.
fn written(guard: &Booted, what: &str, condition: &str) {
    wait_until(what, || guard.ok(&format!("systemctl kill --signal=USR1 psentry-block; {condition}")));
}

/// What a psentry leaves whose blocker was a dynamic user, and whose log logrotate rotated.
pub fn is_left_by_an_earlier_psentry(guard: &Booted) {
    guard.sh(&format!(
        "mkdir -p -m 700 /var/lib/private; mkdir -m 700 /var/lib/private/psentry-block
         ln -s private/psentry-block /var/lib/psentry-block; echo > /var/lib/psentry-block/other
         chown -R 61234:61234 /var/lib/private/psentry-block
         mkdir -p -m 750 /var/log/psentry /usr/local/lib/tmpfiles.d; echo '{{}}' > {LOG}; chmod 640 {LOG}
         echo 'postrotate systemctl try-restart psentry-block.service' > /etc/logrotate.d/psentry
         echo 'f {LOG} 0640 root root -' > /usr/local/lib/tmpfiles.d/psentry.conf"
    ));
}

/// Installed over that, the blocker has its files.
pub fn is_taken_over(guard: &Booted) {
    assert_eq!(guard.sh(&format!("stat -c '%a %U %G' {LOG}")), "640 psentry-block psentry\n");
    assert_eq!(guard.sh(&format!("head -n 1 {LOG}")), "{}\n");
    assert_eq!(guard.sh("stat -c '%F %a %U' /var/lib/psentry-block"), "directory 700 psentry-block\n");
    assert_eq!(guard.sh("stat -c %U /var/lib/psentry-block/other"), "psentry-block\n");
    assert!(!guard.ok("ls /etc/logrotate.d/psentry /usr/local/lib/tmpfiles.d/psentry.conf"));
}

/// On a guard whose psentry has run for a while.
pub fn is_rotated_by_its_writer(guard: &Booted) {
    let process = guard.sh("systemctl show -P MainPID psentry-block");
    let owner = "stat -c '%a %U %G'";
    assert_eq!(guard.sh(&format!("{owner} /var/log/psentry")), "750 psentry-block psentry\n");
    // Whoever is in the group reads it, and nobody else.
    guard.sh("useradd --no-create-home --groups psentry reader; useradd --no-create-home stranger");
    assert!(guard.ok(&format!("setpriv --reuid reader --init-groups cat {LOG}")));
    assert!(!guard.ok(&format!("setpriv --reuid reader --init-groups touch {LOG} /var/log/psentry/other")));
    assert!(!guard.ok(&format!("setpriv --reuid stranger --init-groups cat {LOG}")));
    guard.sh("userdel reader; userdel stranger");

    // As if a day had passed.
    guard.sh(&format!("truncate --size=+16M {LOG}"));
    written(guard, "it is rotated", &format!("test -e {LOG}.1 && grep -q '\"stage\":\"block\"' {LOG}"));
    let files = format!("{owner} {LOG} {LOG}.1");
    assert_eq!(guard.sh(&files), "640 psentry-block psentry\n640 psentry-block psentry\n");
    // A logrotate of an earlier psentry, or a hand, takes it away.
    guard.sh(&format!("mv {LOG} /var/log/psentry/away"));
    written(guard, "it is opened anew", &format!("grep -q '\"stage\":\"block\"' {LOG}"));
    guard.sh("rm /var/log/psentry/away");
    assert_eq!(guard.sh("systemctl show -P MainPID psentry-block"), process, "nothing was restarted");
}
