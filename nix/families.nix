# Which ports are one contact: what the module itself has to know of the text of /etc/psentry/ports. What is wrong with that
# text psentry-trap and psentry-judge say.
{
  # Those that are compiled in, as in units/etc/ports; a test compares them.
  compiled = ''
    family smb tcp/135 tcp/139 tcp/445 udp/137-138
    family nfs tcp/111 udp/111 tcp/2049 udp/2049
    family web tcp/80 tcp/443 udp/443
    family web-alt tcp/8080 tcp/8443
    family mail tcp/25 tcp/465 tcp/587
    family mailbox tcp/110 tcp/143 tcp/993 tcp/995
    family dns tcp/53 udp/53 tcp/853 udp/853
    family sip tcp/5060-5061 udp/5060-5061
    family ldap tcp/389 udp/389 tcp/636 tcp/3268-3269
    family kerberos tcp/88 udp/88 tcp/464 udp/464
    family print tcp/515 tcp/631 udp/631 tcp/9100
  '';

  # From such a text, a name for the contact that a port is: that of its family, or the port itself, over whatever protocol.
  contact =
    text:
    let
      inherit (builtins)
        any
        elemAt
        filter
        fromJSON
        head
        isString
        match
        split
        tail
        ;
      words = line: filter (word: isString word && word != "") (split "[ \t]+" (head (split "#" line)));
      families = filter (statement: statement != [ ] && head statement == "family") (
        map words (filter isString (split "\n" text))
      );
      # Whether "tcp/139", or a range such as "udp/137-138", holds a port.
      holds =
        protocol: port: word:
        let
          range = match "([a-z]+)/([0-9]+)(-([0-9]+))?" word;
          first = elemAt range 1;
          last = elemAt range 3;
        in
        range != null
        && head range == protocol
        && fromJSON first <= port
        && port <= fromJSON (if last == null then first else last);
    in
    protocol: port:
    let
      its = filter (family: any (holds protocol port) (tail family)) families;
    in
    if its == [ ] then toString port else "family ${elemAt (head its) 1}";
}
