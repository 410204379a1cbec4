//! `list` and `why`: which blocks there are, and what would become of a verdict.

use std::cmp::Ordering;
use std::path::Path;

use psentry_local_time::Clock;
use psentry_ports::named_ports;
use psentry_records::{Outcome, OutcomeResult, Prefix};
use psentry_stage::printable;

use super::client::{Answer, Client};
use super::print::{self, print};
use crate::error::Error;
use crate::protocol::Prospect;
use psentry_control::Question;

/// Shows what is blocked.
pub(super) fn list(client: Client<'_>) -> Result<(), Error> {
    let answer = client.ask(&Question::List)?.selected(client.flags);
    print(client.flags, || print::blocks(&answer.outcomes), || print::lines(&answer.outcomes, client.host))?;
    answer.complete()
}

/// Says which blocks overlap `asked`: for an address those that hold it.
pub(super) fn why(client: Client<'_>, asked: Prefix) -> Result<(), Error> {
    let answer = client.ask(&Question::Why { addr: asked })?.selected(client.flags);
    if answer.outcomes.is_empty() {
        // What could not be read may well block it.
        answer.complete()?;
        return Err(Error::No(not_blocked(asked, &answer, &client.path())));
    }
    let clock = client.clock();
    let people = || answer.outcomes.iter().map(|outcome| description(outcome, asked, &clock)).collect();
    print(client.flags, people, || print::lines(&answer.outcomes, client.host))?;
    answer.complete()
}

/// That nothing blocks it, and whether anything could.
fn not_blocked(asked: Prefix, answer: &Answer, path: &Path) -> String {
    let is_not = if asked.is_host() {
        format!("{} is not blocked", asked.addr())
    } else {
        format!("nothing of {asked} is blocked")
    };
    let Some(Prospect { may_block, why }) = &answer.prospect else {
        return format!("{is_not}; whether a verdict may block it is not known");
    };
    // The flags of the next one that runs may be others than those of this command.
    let as_far = if answer.running {
        String::new()
    } else {
        format!(" as far as this command can tell, for no psentry-block answers at {}", path.display())
    };
    let why = why.as_deref().map(printable);
    match (may_block, why) {
        (true, None) => format!("{is_not}; nothing keeps a verdict from blocking it{as_far}"),
        (true, Some(why)) => {
            format!("{is_not}; nothing keeps a verdict from blocking it now{as_far}, but {why}")
        }
        (false, why) => format!("{is_not}, nor can it be: {}", why.unwrap_or_default()),
    }
}

/// All that is known of a block, for people.
fn description(Outcome { common, body }: &Outcome, asked: Prefix, clock: &Clock) -> String {
    let scope = body.scope;
    let backend = printable(body.backend.as_deref().unwrap_or("no backend"));
    let why = body.error.as_deref().map(printable);
    let is = match (body.result, why) {
        (OutcomeResult::Already, None) => format!("{scope} is blocked on {backend}"),
        (OutcomeResult::Already, Some(remark)) => format!("{scope} is blocked on {backend}: {remark}"),
        (_, why) => {
            let why = why.unwrap_or_else(|| "it is not known why".to_owned());
            format!("{scope} is to be blocked on {backend} and is not: {why}")
        }
    };
    let part = match scope.len().cmp(&asked.len()) {
        _ if asked.is_host() => String::new(),
        Ordering::Less => format!("\n  it holds all of {asked}"),
        Ordering::Equal => String::new(),
        Ordering::Greater => format!("\n  it lies in {asked}"),
    };
    let ports = match &*body.ports {
        [] => String::new(),
        ports => format!("  ports   {}\n", named_ports(ports, common.proto)),
    };
    let until = body.until.map_or_else(
        || print::NO_END.to_owned(),
        |until| format!("{} ({} left)", clock.moment(until), print::left(until.since(clock.now))),
    );
    let spares = if body.handshake == Some(false) {
        "  spares  established connections, for no handshake proves the source\n"
    } else {
        ""
    };
    let text = |text: &Option<String>| printable(text.as_deref().unwrap_or("-"));
    format!(
        "{is}{part}\n{ports}  rule    {}\n  reason  {}\n  since   {}\n  until   {until}\n{spares}  \
         ended by: psentry-block unblock {scope}\n",
        text(&body.rule),
        text(&body.reason),
        body.since.map_or_else(|| "not known".to_owned(), |since| clock.moment(since)),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use psentry_records::{Action, Proto};

    use super::*;
    use crate::commands::print::tests::{clock, outcome};

    #[test]
    fn all_that_is_known_of_a_block_is_described() {
        let clock = clock();
        let now = clock.now;
        let mut block = outcome(Action::Block, 7, Some("nft"), OutcomeResult::Already);
        assert_eq!(
            description(&block, "192.0.2.7".parse().unwrap(), &clock),
            "192.0.2.7/32 is blocked on nft\n  rule    -\n  reason  -\n  since   not known\n  until   no end\n  \
             ended by: psentry-block unblock 192.0.2.7/32\n"
        );
        block.body.result = OutcomeResult::Failed;
        block.body.error = Some("no room".to_owned());
        (block.body.ports, block.common.proto) = (vec![22, 53], Some(Proto::Tcp));
        block.body.rule = Some("fan".to_owned());
        block.body.reason = Some("7 ports\u{9b}".to_owned());
        block.body.since = Some(now);
        block.body.until = Some(now.plus(Duration::from_secs(3725)));
        block.body.handshake = Some(false);
        assert_eq!(
            description(&block, "192.0.2.0/24".parse().unwrap(), &clock),
            "192.0.2.7/32 is to be blocked on nft and is not: no room\n  it lies in 192.0.2.0/24\n  \
             ports   22,53/tcp\n  rule    fan\n  reason  7 ports\\u{9b}\n  since   16:04:05 +01\n  \
             until   17:06:10 +01 (1h 2m left)\n  \
             spares  established connections, for no handshake proves the source\n  \
             ended by: psentry-block unblock 192.0.2.7/32\n"
        );
        block.body.scope = "192.0.0.0/16".parse().unwrap();
        let text = description(&block, "192.0.2.0/24".parse().unwrap(), &clock);
        assert!(text.contains("\n  it holds all of 192.0.2.0/24\n"), "{text}");
    }

    #[test]
    fn what_is_not_blocked_has_its_reason() {
        let said = |asked: &str, running, prospect: Option<(bool, Option<&str>)>| {
            let prospect =
                prospect.map(|(may_block, why)| Prospect { may_block, why: why.map(str::to_owned) });
            not_blocked(
                asked.parse().unwrap(),
                &Answer { running, prospect, ..Answer::default() },
                Path::new("/run/c"),
            )
        };
        for (is, text) in [
            (
                said("192.0.2.7", true, Some((true, None))),
                "192.0.2.7 is not blocked; nothing keeps a verdict from blocking it",
            ),
            (
                said("192.0.2.7", true, Some((true, Some("the brake holds")))),
                "192.0.2.7 is not blocked; nothing keeps a verdict from blocking it now, but the brake holds",
            ),
            (
                said("192.0.2.0/24", true, Some((false, Some("a panic holds\n")))),
                "nothing of 192.0.2.0/24 is blocked, nor can it be: a panic holds\\n",
            ),
            (
                said("192.0.2.7", false, Some((true, None))),
                "192.0.2.7 is not blocked; nothing keeps a verdict from blocking it as far as this command can tell, for no \
 psentry-block answers at /run/c",
            ),
            (
                said("192.0.2.7", true, None),
                "192.0.2.7 is not blocked; whether a verdict may block it is not known",
            ),
        ] {
            assert_eq!(is, text);
        }
    }
}
