# Services of NixOS that listen on ports which scanners love, whether or not the firewall opens them. A decoy holds its port
# from early boot on, so that such a service would not even start. Not all services there are: others are known by their
# socket units, by the ports that the firewall opens, and by the ports that containers publish.
#
# For each option path whose `enable` turns a service on: its ports, from its configuration.
lib:
let
  always = ports: _: ports;
  at = path: default: service: [ (lib.attrByPath path default service) ];
in
{
  "services.asterisk".udp = always [ 5060 ];
  "services.atftpd".udp = always [ 69 ];
  "services.dnsmasq".udp = service: lib.optional (service.settings.enable-tftp or false != false) 69;
  "services.dragonflydb".tcp = at [ "port" ] 6379;
  "services.elasticsearch".tcp = at [ "port" ] 9200;
  "services.ferretdb".tcp = always [ 27017 ];
  "services.freeswitch".tcp = always [ 5060 ];
  "services.freeswitch".udp = always [ 5060 ];
  "services.gerbera".udp = always [ 1900 ];
  "services.gnome.gnome-remote-desktop".tcp = always [ 3389 ];
  "services.jellyfin".udp = always [ 1900 ];
  "services.kamailio".tcp = always [ 5060 ];
  "services.kamailio".udp = always [ 5060 ];
  "services.mediatomb".udp = always [ 1900 ];
  "services.memcached".tcp = at [ "port" ] 11211;
  "services.minidlna".udp = always [ 1900 ];
  "services.miniupnpd".udp = always [ 1900 ];
  "services.mongodb".tcp = always [ 27017 ];
  "services.mysql".tcp = at [ "settings" "mysqld" "port" ] 3306;
  "services.nullidentdmod".tcp = at [ "port" ] 113;
  "services.oidentd".tcp = always [ 113 ];
  "services.opensearch".tcp = at [ "settings" "http.port" ] 9200;
  "services.pixiecore".udp = always [ 69 ];
  "services.plex".udp = always [ 1900 ];
  "services.postgresql".tcp = at [ "settings" "port" ] 5432;
  "services.rpcbind".tcp = always [ 111 ];
  "services.rpcbind".udp = always [ 111 ];
  "services.samba".tcp = always [
    139
    445
  ];
  "services.snmpd".udp = at [ "port" ] 161;
  "services.tftpd".udp = always [ 69 ];
  "services.vsftpd".tcp = always [ 21 ];
  "services.xrdp".tcp = at [ "port" ] 3389;
  # Where the screens of its guests begin.
  "virtualisation.libvirtd".tcp = always [ 5900 ];
}
