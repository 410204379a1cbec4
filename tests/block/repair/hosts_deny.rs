//! hosts.deny: a line that goes, a link and a directory that are replaced, a watch that cannot be had.

use super::*;

/// A blocker that keeps `file` and blocks one host in it.
fn blocker(lab: &Lab, file: &str) -> (Program, ChildStdin) {
    let (mut program, mut stdin) = start(lab, &["--backend", "hosts-deny", "--hosts-deny", file]);
    block(&mut program, &mut stdin, &[SCANNER]);
    (program, stdin)
}

fn holds(guard: &Host, file: &str) -> bool {
    guard.ok(&["grep", "-q", "ALL: 203.0.113.7", file])
}

/// The one line of a section is not the section.
#[test]
fn whose_line_is_taken_out_is_let_in_even_if_it_was_the_only_one() {
    let lab = Lab::new();
    let file = "/run/hosts.deny";
    let (mut program, _stdin) = blocker(&lab, file);
    lab.guard.sh(&format!("sed -i '/203.0.113.7$/d' {file}"));
    assert_eq!(result(&mut program, SCANNER), OutcomeResult::Released);
    assert!(!holds(&lab.guard, file));
}

#[test]
fn a_link_or_a_directory_that_is_replaced_is_noticed() {
    let lab = Lab::new();
    let file = "/run/etc/hosts.deny";
    lab.guard
        .sh("mkdir /run/etc /run/one /run/two; echo '# mine' | tee /run/one/hosts.deny > /run/two/hosts.deny
        ln -s /run/one/hosts.deny /run/etc/hosts.deny");
    let (mut program, _stdin) = blocker(&lab, file);
    for vandal in [
        "ln -s /run/two/hosts.deny /run/etc/new; mv -T /run/etc/new /run/etc/hosts.deny",
        // What it leads to now is watched.
        "echo '# mine' > /run/two/hosts.deny",
        "mv /run/etc /run/old; mkdir /run/etc; echo '# mine' > /run/etc/hosts.deny",
        "rm -r /run/etc; sleep 0.2; mkdir /run/etc; echo '# mine' > /run/etc/hosts.deny",
        "echo '# mine' > /run/etc/hosts.deny",
    ] {
        let took = damaged(&program, &lab.guard, vandal, || holds(&lab.guard, file));
        println!("{took:>7.0?} {vandal}");
        assert!(took < 3 * SECOND, "{took:?}: {vandal}");
        assert!(lab.guard.ok(&["grep", "-q", "# mine", file]), "{vandal}");
    }
    let (_, output, errors) = program.terminate();
    let released = output.iter().filter(|line| line.contains("released")).count();
    assert_eq!(released, 1, "only at the end: {output:?} {errors:?}");
}

/// Who cannot hear of changes blocks nevertheless, and says that he is deaf.
#[test]
fn without_a_watch_it_blocks_and_says_so() {
    let lab = Lab::new();
    lab.guard.sh("echo 0 > /proc/sys/user/max_inotify_instances");
    let (mut program, _stdin) = blocker(&lab, "/run/hosts.deny");
    assert!(holds(&lab.guard, "/run/hosts.deny"));
    let said = program.complaint("does not hear of changes");
    assert!(said.contains("hosts-deny"), "{said}");
}
