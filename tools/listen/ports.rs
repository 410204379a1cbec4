//! A set of ports, written as people write it: `21,23,8000-8010`. It opens none of them.

use std::collections::BTreeSet;
use std::fmt::Write;

/// The list again, as short as it can be written.
pub(crate) fn list(ports: &BTreeSet<u16>) -> String {
    let mut text = String::new();
    let mut rest = ports.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if(|&next| Some(next) == last.checked_add(1)) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = match last - first {
            0 => write!(text, "{comma}{first}"),
            1 => write!(text, "{comma}{first},{last}"),
            _ => write!(text, "{comma}{first}-{last}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;
    use psentry_stage::parse_ports;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(ports in btree_set(1..=u16::MAX, 1..200)) {
            let read = parse_ports(&list(&ports)).unwrap().into_iter().flatten().collect();
            prop_assert_eq!(ports, read);
        }

        #[test]
        fn neighbours_are_written_as_a_range(first in 1..60_000u16, more in 2..5_000u16) {
            let ports = (first..=first + more).collect();
            prop_assert_eq!(list(&ports), format!("{first}-{}", first + more));
        }
    }
}
