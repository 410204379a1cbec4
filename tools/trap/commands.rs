//! `list`, `why`, `unblock` and `status`: what people ask of the psentry-trap that runs, on its control socket, and its answer in
//! words. Where none runs nobody answers, and a new one takes over what a killed one left.

use std::time::Duration;

use psentry_control::{Question, Reply, Silence, ask};
use psentry_records::{Action, Common, Outcome, Prefix, Record, Timestamp, Verdict, VerdictBody};
use psentry_stage::{Exit, counted, print, printable, speak};

use crate::cli::{Command, Whom};
use crate::protocol::{Confirmation, Report};
use crate::{Flags, TrapError};

/// How long an answer may take: longer than the socket waits for the one that runs, and then says that it hangs.
const LIMIT: Duration = Duration::from_secs(17);

/// Runs a command.
///
/// # Errors
/// There is no answer, or the answer is no.
pub(crate) fn run(flags: &Flags, command: &Command) -> Result<(), TrapError> {
    match command {
        Command::List => {
            let reply = asked(flags, &Question::List)?;
            show(flags, &reply, || table(&outcomes(&reply), Timestamp::now()))
        }
        Command::Why { addr } => {
            let reply = asked(flags, &Question::Why { addr: *addr })?;
            let rows = outcomes(&reply);
            if rows.is_empty() {
                return no(format!("{} is not in quarantine", addr.short()));
            }
            let now = Timestamp::now();
            show(flags, &reply, || rows.iter().map(|row| reason(row, *addr, now)).collect())
        }
        Command::Unblock { whom } => unblock(flags, *whom),
        Command::Confirm => {
            let reply = asked(flags, &Question::Confirm)?;
            let answer = reply.lines.first().and_then(|line| serde_json::from_str(line).ok());
            let answer: Confirmation = answer.unwrap_or_default();
            if !answer.confirmed {
                return no(answer.what);
            }
            show(flags, &reply, || format!("{}\n", answer.what))
        }
        Command::Status => {
            let reply = asked(flags, &Question::Status)?;
            let report = reply.lines.first().and_then(|line| serde_json::from_str(line).ok());
            let report: Report = report.unwrap_or_default();
            show(flags, &reply, || described(&report))?;
            let panic = report.panic.map(|order| order.sentence());
            report.error.or(panic).map_or(Ok(()), |why| no(printable(&why)))
        }
    }
}

/// Releases somebody. That a wider network is in quarantine, and he with it, is an error.
fn unblock(flags: &Flags, whom: Whom) -> Result<(), TrapError> {
    let Whom::One(scope) = whom else {
        let reply = asked(flags, &Question::Flush)?;
        return show(flags, &reply, || match reply.lines.len() as u64 {
            0 => "nobody was in quarantine\n".to_owned(),
            count => format!("{} released\n", counted(count, "source is", "sources are")),
        });
    };
    let body = VerdictBody::new(Action::Unblock, scope);
    let verdict = Verdict { common: Common::at(Timestamp::now()), body };
    let reply = asked(flags, &Question::Verdict(Box::new(verdict)))?;
    show(flags, &reply, || {
        let released = outcomes(&reply);
        let lines = released.iter().map(|row| format!("{} is released\n", row.body.scope.short()));
        if released.is_empty() {
            format!("{} was not in quarantine\n", scope.short())
        } else {
            lines.collect()
        }
    })?;
    let left = outcomes(&asked(flags, &Question::Why { addr: scope })?);
    let around = left.iter().map(|row| row.body.scope).find(|other| other.len() < scope.len());
    around.map_or(Ok(()), |around| {
        no(format!(
            "{} is still in quarantine with all of {around}; to end that: psentry-trap unblock {around}",
            scope.short()
        ))
    })
}

/// Asks the one that runs.
fn asked(flags: &Flags, question: &Question) -> Result<Reply, TrapError> {
    let path = flags.control_path();
    let reply = ask(&path, &question.line(), LIMIT).map_err(|silence| {
        let why = silence.sentence(&path, "psentry-trap");
        match silence {
            Silence::Forbidden => TrapError::Unanswered(Exit::NoPermission, why),
            Silence::Absent | Silence::Dead => TrapError::Unanswered(
                Exit::Os,
                format!("{why}; is it running? A new one takes over what a killed one left"),
            ),
            Silence::Hangs | Silence::Refused(_) => TrapError::Unanswered(Exit::Os, why),
        }
    })?;
    for note in &reply.notes {
        speak(&format!("psentry-trap: {note}"));
    }
    match reply.errors.first() {
        Some(error) => Err(TrapError::Unanswered(Exit::Os, error.clone())),
        None => Ok(reply),
    }
}

fn no<T>(why: String) -> Result<T, TrapError> {
    Err(TrapError::Unanswered(Exit::No, why))
}

fn outcomes(reply: &Reply) -> Vec<Outcome> {
    let records = reply.lines.iter().filter_map(|line| Record::parse(line).ok());
    records
        .filter_map(|record| if let Record::Outcome(outcome) = record { Some(outcome) } else { None })
        .collect()
}

/// Prints what is for people, or with `--json` the lines as they came. A reader that has seen enough is no error.
fn show(flags: &Flags, reply: &Reply, people: impl FnOnce() -> String) -> Result<(), TrapError> {
    let lines = || reply.lines.iter().map(|line| format!("{line}\n")).collect();
    let text = if flags.json { lines() } else { people() };
    print(text.as_bytes()).map_err(TrapError::Output)
}

/// A line for each row, lined up.
fn table(rows: &[Outcome], now: Timestamp) -> String {
    if rows.is_empty() {
        return "nobody is in quarantine\n".to_owned();
    }
    let scopes: Vec<String> = rows.iter().map(|row| row.body.scope.short()).collect();
    let width = scopes.iter().map(String::len).max().unwrap_or(0);
    let lines = scopes.iter().zip(rows).map(|(scope, row)| format!("{scope:<width$}  {}\n", left(row, now)));
    lines.collect()
}

/// That one is in quarantine, or all of a network around it or in it.
fn reason(row: &Outcome, asked: Prefix, now: Timestamp) -> String {
    let scope = row.body.scope.short();
    let who = if row.body.scope.len() < asked.len() {
        format!("{} with all of {scope}", asked.short())
    } else {
        scope.clone()
    };
    format!("{who} is in quarantine, {}\n  ended by: psentry-trap unblock {scope}\n", left(row, now))
}

/// How long it lasts yet; a second that has begun counts.
fn left(row: &Outcome, now: Timestamp) -> String {
    let left = row.body.until.map(|until| until.since(now).as_millis().div_ceil(1000));
    left.map_or_else(|| "no end".to_owned(), |seconds| format!("{seconds} s left"))
}

fn described(report: &Report) -> String {
    let counter = |name: &str| report.counters.get(name).copied().unwrap_or(0);
    let packets = |name| counted(counter(name), "packet", "packets");
    let mode = match (&report.panic, report.observes) {
        (Some(_), _) => "a panic holds, and nobody is put into quarantine",
        (None, true) => "it observes, and puts nobody into quarantine",
        (None, false) => "it puts into quarantine whoever touches a closed port",
    };
    let times = |name| counted(counter(name), "time", "times");
    let veiled = [counter("veil_dropped"), counter("veil_passed")];
    let veil = if veiled == [0, 0] {
        String::new()
    } else {
        format!("veiled         {} dropped, {} let through\n", packets("veil_dropped"), veiled[1])
    };
    let unseen = [
        report.veiled.as_ref().map(|ports| format!("veil           TCP ports {ports}\n")),
        report.hidden.as_ref().map(|ports| {
            let vouched = counted(report.vouched as u64, "source is", "sources are");
            format!(
                "hidden         ports {ports}; {vouched} vouched for; {} turned away\n",
                packets("hidden")
            )
        }),
        report.confirm_left.map(|left| {
            format!("to confirm     within {left} s, or these ports are shown again: psentry-trap confirm\n")
        }),
    ];
    let unseen: String = unseen.into_iter().flatten().collect();
    format!(
        "in quarantine  {}\nmode           {mode}\nrefused        {}\nlogged         {} of {} seen\nrepaired       {}\n{unseen}{veil}",
        report.quarantined.map_or_else(
            || "more than are counted".to_owned(),
            |count| counted(count as u64, "source", "sources")
        ),
        packets("refused"),
        counter("logged"),
        packets("seen"),
        times("repairs"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{listed, released};

    fn rows(now: Timestamp, all: &[(&str, u64)]) -> Vec<Outcome> {
        let line = |(scope, millis): &(&str, u64)| {
            String::from_utf8(listed(scope.parse().unwrap(), Duration::from_millis(*millis), now)).unwrap()
        };
        outcomes(&Reply { lines: all.iter().map(line).collect(), ..Reply::default() })
    }

    #[test]
    fn who_is_in_quarantine_is_shown_with_what_is_left() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        assert_eq!(table(&[], now), "nobody is in quarantine\n");
        let rows = rows(now, &[("203.0.113.7", 20_001), ("2001:db8:7::/64", 3000)]);
        assert_eq!(table(&rows, now), "203.0.113.7      21 s left\n2001:db8:7::/64  3 s left\n");
        assert_eq!(
            reason(&rows[0], "203.0.113.0/24".parse().unwrap(), now),
            "203.0.113.7 is in quarantine, 21 s left\n  ended by: psentry-trap unblock 203.0.113.7\n"
        );
        assert_eq!(
            reason(&rows[1], "2001:db8:7::9".parse().unwrap(), now),
            "2001:db8:7::9 with all of 2001:db8:7::/64 is in quarantine, 3 s left\n  ended by: psentry-trap unblock \
             2001:db8:7::/64\n"
        );
        let mut endless = rows[0].clone();
        endless.body.until = None;
        assert_eq!(left(&endless, now), "no end");
        let line = String::from_utf8(released("192.0.2.7".parse().unwrap(), now)).unwrap();
        assert_eq!(outcomes(&Reply { lines: vec![line, "x".to_owned()], ..Reply::default() }).len(), 1);
    }

    #[test]
    fn the_status_is_in_words() {
        let counters = [("refused", 1), ("seen", 7), ("logged", 5), ("repairs", 2)];
        let counters = counters.map(|(name, value)| (name.to_owned(), value)).into();
        let report = Report { quarantined: Some(3), counters, ..Report::default() };
        assert_eq!(
            described(&report),
            "in quarantine  3 sources\nmode           it puts into quarantine whoever touches a closed port\n\
             refused        1 packet\nlogged         5 of 7 packets seen\nrepaired       2 times\n"
        );
        assert!(described(&Report::default()).starts_with("in quarantine  more than are counted\n"));
        assert!(described(&Report { observes: true, ..report }).contains("it observes"));
    }
}
