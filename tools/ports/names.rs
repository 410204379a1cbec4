//! Ports in words, for people: `22,53/tcp`.

use psentry_records::Proto;

/// Ports such as "22,53/tcp"; where no transport is named, TCP and UDP are meant.
#[must_use]
pub fn named_ports(ports: &[u16], proto: Option<Proto>) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{}{}", ports.join(","), suffix(proto))
}

/// The same in some 24 letters at most: of more ports, how many more.
#[must_use]
pub fn named_ports_shortly(ports: &[u16], proto: Option<Proto>) -> String {
    const MOST: usize = 24;
    let whole = named_ports(ports, proto);
    if whole.len() <= MOST {
        return whole;
    }
    let rest = |shown: usize| format!(",+{}{}", ports.len().saturating_sub(shown), suffix(proto));
    let mut text = String::new();
    for (shown, port) in ports.iter().enumerate() {
        let next = if shown == 0 { port.to_string() } else { format!("{text},{port}") };
        if next.len() + rest(shown + 1).len() > MOST {
            return text + &rest(shown);
        }
        text = next;
    }
    whole
}

fn suffix(proto: Option<Proto>) -> &'static str {
    match proto {
        Some(Proto::Tcp) => "/tcp",
        Some(Proto::Udp) => "/udp",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_and_many_of_them_shortly() {
        let (tcp, udp) = (Some(Proto::Tcp), Some(Proto::Udp));
        for (ports, proto, text) in
            [(&[22][..], tcp, "22/tcp"), (&[22, 53], udp, "22,53/udp"), (&[22, 53], None, "22,53")]
        {
            assert_eq!(
                (named_ports(ports, proto), named_ports_shortly(ports, proto)),
                (text.to_owned(), text.to_owned())
            );
        }
        let many: Vec<u16> = (21..141).collect();
        assert_eq!(named_ports_shortly(&many, tcp), "21,22,23,24,25,+115/tcp");
        let high: Vec<u16> = (60_001..60_005).collect();
        assert_eq!(named_ports_shortly(&high, udp), "60001,60002,60003,+1/udp");
        assert_eq!(named_ports_shortly(&high, None), "60001,60002,60003,60004");
    }
}
