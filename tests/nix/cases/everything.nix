# Every option, set to something else than its default.
{ pkgs, ... }:
{
  services.psentry = {
    enable = true;
    package = pkgs.psentry // {
      outPath = "${pkgs.psentry}/.";
    };
    tcpPorts = [
      23
      2222
    ];
    udpPorts = [ 161 ];
    openFirewall = false;
    ignore = [
      "192.0.2.0/24"
      "2001:db8::/32"
    ];
    observe = false;
    policy = {
      trigger = 3;
      window = "10m";
      duration = "1d 12h";
      unproven = "30s";
      max-sources = 5000;
    };
    block = {
      backends = [
        "nft"
        "exec"
      ];
      maxBlocks = 500;
      exec = "/bin/true --percent 5% --price $5 {scope}";
      execUndo = "/bin/false {scope}";
    };
    selftest.enable = true;
    extraFlags = {
      listen = [ "--host=edge" ];
      judge = [ "--ignore=/dev/null" ];
      block = [
        "--host=edge"
        "--exec-timeout=5s"
      ];
    };
  };
}
