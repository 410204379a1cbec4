//! What differs from one run to the next, by what stands for it in a golden file: times, durations, processes. Pure.

/// A pattern and what is written in its place; the first one that fits counts. `9` is one digit, `#` one digit or more, any other
/// character itself.
const RULES: &[(&str, &str)] = &[
    ("9999-99-99T99:99:99.999999Z", "TIME"),
    ("9999-99-99T99:99:99Z", "TIME"),
    ("9999-99-99 99:99:99", "TIME"),
    ("9999/99/99 99:99:99", "TIME"),
    ("9999-99-99 99:99 UTC", "TIME"),
    ("9999-99-99", "DATE"),
    ("99:99:99.999999", "TIME"),
    ("99:99:99", "TIME"),
    ("99:99 UTC", "TIME"),
    // The self-test takes another source each time.
    ("169.254.#.#", "169.254.X.Y"),
    ("#.# s ago", "T ago"),
    ("# s ago", "T ago"),
    // The kernel sends the SYN of a connection again.
    ("# probes in all", "N probes in all"),
    ("# min ago", "T ago"),
    ("# h ago", "T ago"),
    ("# s left", "T left"),
    ("# min left", "T left"),
    ("# h left", "T left"),
    ("UID #", "UID N"),
    ("GID #", "GID N"),
    ("pid #", "pid PID"),
    ("process #", "process PID"),
    ("[#]", "[PID]"),
    ("was restarted # time", "was restarted N time"),
    ("the time, # times", "the time, N times"),
];

/// A text as golden files have it. Where something was replaced, columns are two blanks apart, as their widths differ, too.
pub fn normalised(text: &str) -> String {
    text.lines().map(|line| normalised_line(line) + "\n").collect()
}

fn normalised_line(line: &str) -> String {
    let mut done = String::new();
    let mut rest = line.trim_end();
    let mut is_changed = false;
    while let Some(character) = rest.chars().next() {
        // A part of a longer number is not what a pattern means.
        let begins = !done.ends_with(|last: char| last.is_ascii_digit() || last == '.');
        let fits = |(pattern, name): &(&str, &'static str)| Some((*name, fitting(pattern, rest)?));
        match RULES.iter().find_map(fits).filter(|_| begins || !character.is_ascii_digit()) {
            Some((name, length)) => {
                done += name;
                rest = &rest[length..];
                is_changed = true;
            }
            None => {
                done.push(character);
                rest = &rest[character.len_utf8()..];
            }
        }
    }
    if is_changed { columns(&done) } else { done }
}

/// How many bytes at the beginning of a text a pattern takes, if it fits.
fn fitting(pattern: &str, text: &str) -> Option<usize> {
    let mut left = text;
    for wanted in pattern.chars() {
        let digits = left.bytes().take_while(u8::is_ascii_digit).count();
        left = match wanted {
            '9' if digits > 0 => &left[1..],
            '#' if digits > 0 => &left[digits..],
            '9' | '#' => return None,
            other => left.strip_prefix(other)?,
        };
    }
    // Nor is the beginning of a longer number.
    let ends = !pattern.ends_with(['9', '#']) || !left.starts_with(|next: char| next.is_ascii_digit());
    ends.then_some(text.len() - left.len())
}

/// Blanks within a line, two at most; those at its beginning stay.
fn columns(line: &str) -> String {
    let body = line.trim_start();
    let mut text = line[..line.len() - body.len()].to_owned();
    for character in body.chars() {
        if character != ' ' || !text.ends_with("  ") {
            text.push(character);
        }
    }
    text
}

#[test]
fn times_durations_and_processes_are_named() {
    for (line, want) in [
        ("until 16:38 UTC by rule", "until TIME by rule"),
        ("16:38:05 probe  203.0.113.7", "TIME probe  203.0.113.7"),
        ("{\"timestamp\":\"2026-12-02T16:38:05.000123Z\"}", "{\"timestamp\":\"TIME\"}"),
        ("2026/12/02 16:38:05 socat[4711] E bind(5)", "TIME socat[PID] E bind(5)"),
        ("OK        listen     started 61 s ago, 30 decoys", "OK  listen  started T ago, 30 decoys"),
        ("trap, 21 s left, touched 445/tcp", "trap, T left, touched 445/tcp"),
        ("169.254.33.7 touched 20 decoys", "169.254.X.Y touched 20 decoys"),
        ("by nft (pid 77)", "by nft (pid PID)"),
    ] {
        assert_eq!(normalised(line), format!("{want}\n"));
    }
}

#[test]
fn what_is_the_same_each_time_stays() {
    for line in [
        "203.0.113.7  blocked, no end",
        "  is it well          psentry status",
        "port 8080, version 1.2026-12-021",
        "1169.254.3.4",
        "It touched 2 different decoys (23/tcp, 445/tcp)",
        "for 30 s",
    ] {
        assert_eq!(normalised(line), format!("{line}\n"));
    }
}
