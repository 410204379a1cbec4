# Which ports are one contact: what the module itself has to know of the text of /etc/psentry/ports. What is wrong with that
# text psentry-trap and psentry-judge say.
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
# A name for the contact that a port is: that of its family, or the port itself, over whatever protocol.
protocol: port:
let
  its = filter (family: any (holds protocol port) (tail family)) families;
in
if its == [ ] then toString port else "family ${elemAt (head its) 1}"
