//! What the flags mean, and all that `--check` checks: whether they go together, which of them each backend can heed, and whom
//! the guard leaves alone.

use psentry_guard::Guard;
use psentry_stage::LastGood;

use crate::backends;
use crate::cli::{Flags, LoginPorts, Which};
use crate::error::Error;
use crate::reach::{Answer, Ports};

/// Checks the flags, and that the programs and files that they need are there, without touching anything.
///
/// # Errors
/// What is missing or wrong: a mistake of the configuration.
pub(crate) fn check(flags: &Flags) -> Result<(), Error> {
    let chosen = flags.chosen_or_nft();
    let wrong = |error: Error| Error::Config(error.to_string());
    fit(&chosen, flags).map_err(wrong)?;
    for which in chosen {
        backends::check(which, flags).map_err(wrong)?;
    }
    guard(flags, LastGood::default()).map_err(wrong)?;
    match &flags.state {
        Some(state) if state.exists() && !state.is_dir() => {
            Err(Error::Config(format!("--state {}: this is no directory", state.display())))
        }
        _ => Ok(()),
    }
}

/// Whom nobody is to shut out, by the flags.
///
/// # Errors
/// Which flag, or which line of its file, cannot be used.
pub(crate) fn guard(flags: &Flags, last_good: LastGood) -> Result<Guard, Error> {
    let LoginPorts(logins) = flags.login_ports.clone();
    Guard::new(logins, flags.login_grace, &flags.allow, last_good)
        .map_err(|why| Error::Config(format!("--allow: {why}")))
}

/// Flags of a backend that is not chosen are a mistake: `--exec` alone would block with nft.
///
/// # Errors
/// Which flag lacks its backend, or which backend its flag.
pub(crate) fn fit(chosen: &[Which], flags: &Flags) -> Result<(), Error> {
    let exec_flags = [
        ("--exec", flags.exec.is_some()),
        ("--exec-undo", flags.exec_undo.is_some()),
        ("--exec-jobs", flags.exec_jobs.is_some()),
    ];
    let stray = exec_flags.iter().find(|(_, given)| *given).filter(|_| !chosen.contains(&Which::Exec));
    if let Some((flag, _)) = stray {
        return Err(Error::Usage(format!("{flag} says nothing without --backend exec")));
    }
    if chosen.contains(&Which::Exec) && flags.exec.is_none() {
        return Err(Error::Usage("--backend exec needs --exec COMMAND".to_owned()));
    }
    fit_reach(chosen, flags)
}

/// Flags that a chosen backend does not support are an error: nobody should believe in a block that is not there.
///
/// # Errors
/// Which flag, and what that backend does instead.
fn fit_reach(chosen: &[Which], flags: &Flags) -> Result<(), Error> {
    if flags.answer == Some(Answer::Reject) && flags.egress == Some(true) {
        let why =
            "--answer reject and --egress yes contradict each other: the answer is a packet to the source";
        return Err(Error::Usage(why.to_owned()));
    }
    let filters = [Which::Nft, Which::Iptables, Which::Ipset];
    let filter = chosen.iter().find(|which| filters.contains(which));
    if let Some(filter) =
        filter.filter(|_| flags.answer == Some(Answer::Reject) && chosen.contains(&Which::Route))
    {
        return Err(Error::Usage(format!(
            "--answer reject and --backend route beside --backend {} contradict each other: the answer is a packet to the \
             source, and the route leads it nowhere",
            filter.name()
        )));
    }
    // Beside another backend a command does what it does.
    let only_exec = chosen.iter().all(|which| *which == Which::Exec);
    for which in chosen.iter().filter(|which| only_exec || **which != Which::Exec) {
        let given = given(flags).into_iter().find_map(|flag| Some((flag, unheeded(*which, flag)?)));
        if let Some((flag, why)) = given {
            return Err(Error::Usage(format!("{flag} is not for --backend {}: {why}", which.name())));
        }
    }
    Ok(())
}

/// The flags that were given, in the words of the command line.
fn given(flags: &Flags) -> Vec<&'static str> {
    let words = [
        flags.answer.map(|answer| if answer == Answer::Drop { "--answer drop" } else { "--answer reject" }),
        flags.ports.filter(|ports| *ports == Ports::Probed).map(|_| "--ports probed"),
        flags.forward.map(|is| if is { "--forward yes" } else { "--forward no" }),
        flags.egress.map(|is| if is { "--egress yes" } else { "--egress no" }),
        flags.spare_established.then_some("--spare-established"),
        flags.cut.then_some("--cut"),
    ];
    words.into_iter().flatten().collect()
}

/// Why a backend does not support a flag; `None`: it does, or works that way anyway.
fn unheeded(which: Which, flag: &str) -> Option<&'static str> {
    match (which, flag) {
        (Which::Route, "--ports probed") => Some("a route knows no ports"),
        (Which::Route, "--forward no" | "--egress no") => Some(
            "a route leads whatever is sent to the source nowhere, from here and from behind this machine",
        ),
        (Which::Route, "--spare-established") => Some("a route knows no connections"),
        (Which::HostsDeny, "--answer drop" | "--answer reject") => {
            Some("the service takes the connection and closes it")
        }
        (Which::HostsDeny, "--ports probed") => Some("the file names services, and no ports"),
        (Which::HostsDeny, "--forward yes" | "--egress yes") => {
            Some("only services of this machine look into the file")
        }
        (Which::Exec, flag) if flag != "--cut" => Some("how far it reaches is up to the command"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::reach::{Established, Reach};

    fn said(line: &str) -> Result<(), String> {
        let flags = Flags::try_parse_from(line.split(' ')).unwrap();
        fit_reach(&flags.chosen(), &flags).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_backend_cannot_heed_is_refused_with_its_reason() {
        for (backend, flags) in [
            ("route", "--ports probed"),
            ("route", "--forward no"),
            ("route", "--egress no"),
            ("route", "--spare-established"),
            ("hosts-deny", "--answer reject"),
            ("hosts-deny", "--ports probed"),
            ("hosts-deny", "--forward yes"),
            ("hosts-deny", "--egress yes"),
            ("exec", "--answer reject"),
            ("exec", "--ports probed"),
        ] {
            let error = said(&format!("x --backend nft --backend {backend} {flags}"));
            let alone = said(&format!("x --backend {backend} {flags}")).unwrap_err();
            assert!(alone.starts_with(&format!("{flags} is not for --backend {backend}: ")), "{alone}");
            assert_eq!(error.is_ok(), backend == "exec", "a command may stand beside another backend");
        }
        for fine in [
            "x --answer reject --ports probed --forward no --cut",
            "x --backend ipset --egress yes --forward yes",
            "x --backend route --forward yes --egress yes --cut",
            "x --backend hosts-deny --forward no --egress no --spare-established",
            "x --backend dry-run --ports probed",
            "x --backend route --answer reject",
            "x --backend iptables --backend route",
            "x --backend iptables --backend route --answer drop",
        ] {
            assert_eq!(said(fine), Ok(()), "{fine}");
        }
        assert!(said("x --answer reject --egress yes").is_err());
        for filter in ["nft", "iptables", "ipset"] {
            let line = format!("x --backend route --backend {filter} --answer reject");
            assert!(
                said(&line).unwrap_err().contains(&format!("beside --backend {filter} contradict")),
                "{line}"
            );
        }
        assert!(Flags::try_parse_from("x --cut --spare-established".split(' ')).is_err());
    }

    #[test]
    fn without_flags_all_that_comes_from_the_source_is_dropped() {
        let flags = Flags::try_parse_from(["x"]).unwrap();
        assert_eq!(flags.reach(), Reach::default());
        let flags = Flags::try_parse_from("x --forward no --egress yes --cut".split(' ')).unwrap();
        let reach = flags.reach();
        assert_eq!((reach.forward, reach.egress, reach.established), (false, true, Established::Cut));
    }
}
