//! What is said once the rules are loaded, on standard error and to the service manager.

use psentry_stage::counted;

use crate::ports::Ranges;
use crate::settings::Settings;

/// What is trapped, and where, in a sentence.
pub(crate) fn ready_sentence(settings: &Settings) -> String {
    let ports = [(&settings.excepted_tcp, "TCP"), (&settings.excepted_udp, "UDP")]
        .into_iter()
        .filter(|(excepted, _)| !excepted.hold_all())
        .map(|(excepted, proto)| ports(excepted, proto));
    let ports = ports.collect::<Vec<_>>().join(" and ");
    let verb = if settings.observe { "observes" } else { "traps" };
    let interfaces = match settings.interfaces.as_slice() {
        [] => "every interface".to_owned(),
        names => names.join(", "),
    };
    let veiled = match settings.veil.count() {
        0 => String::new(),
        count => format!("; {} veiled", counted(count, "TCP port is", "TCP ports are")),
    };
    format!("ready: {verb} {ports} without a socket, on {interfaces}{veiled}")
}

fn ports(excepted: &Ranges, proto: &str) -> String {
    match excepted.others().count() {
        65535 => format!("every {proto} port"),
        count => counted(count, &format!("{proto} port"), &format!("{proto} ports")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Flags;

    #[test]
    fn what_is_trapped_is_said_in_a_sentence() {
        for (flags, want) in [
            (&[][..], "ready: traps every TCP port and every UDP port without a socket, on every interface"),
            (
                &[
                    "--observe",
                    "--tcp-ports",
                    "1-1023",
                    "--udp-ports",
                    "53",
                    "--interface",
                    "eth0",
                    "--interface",
                    "wg0",
                ],
                "ready: observes 1023 TCP ports and 1 UDP port without a socket, on eth0, wg0",
            ),
            (
                &["--except", "22", "--udp-ports", "none"],
                "ready: traps 65534 TCP ports without a socket, on every interface",
            ),
            (
                &["--udp-ports", "none", "--veil", "22,80-81"],
                "ready: traps every TCP port without a socket, on every interface; 3 TCP ports are veiled",
            ),
        ] {
            let flags = Flags::parse_from([&["psentry-trap"], flags].concat());
            assert_eq!(ready_sentence(&Settings::from_flags(flags).unwrap()), want);
        }
    }
}
