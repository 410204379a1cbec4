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
    openFirewall = true;
    ignore = [
      "192.0.2.0/24"
      "2001:db8::/32"
    ];
    mode = "block";
    settings = {
      test.trigger = 3;
      test.window = "10m";
      block.duration = "1d 12h";
      block.unproven = 30;
      memory.sources = 5000;
      # No options, and passed on as they are.
      evidence.decoy = 90;
      levels.packets = [
        1
        2
        3
        4
        5
      ];
      block.growth = 1.5;
      groups.office = [ "198.51.100.0/24" ];
      rule = [
        {
          name = "say \"telnet\"";
          ports = [
            23
            "5555-5556"
          ];
          convict = true;
        }
        {
          name = "office";
          networks = [ "@office" ];
          weight = 0.5;
        }
      ];
    };
    ports = ''
      chatter udp/5353
      sibling tcp/9443 of tcp/9080
    '';
    trap = {
      quarantine = "1m";
      answer = "reject";
      veil = [ 22 ];
      exceptPorts = [
        6881
        "27000-27050"
      ];
      mirage = 4999;
    };
    log = {
      size = "64M";
      files = 5;
    };
    block = {
      backends = [
        "nft"
        "exec"
      ];
      answer = "reject";
      ports = "probed";
      forward = false;
      established = "cut";
      maxBlocks = 500;
      exec = "/bin/true --percent 5% --price $5 {scope}";
      execUndo = "/bin/false {scope}";
    };
    selftest.enable = true;
    extraArgs = {
      listen = [ "--host=edge" ];
      judge = [ "--ignore=/dev/null" ];
      trap = [ "--served=1m" ];
      block = [
        "--host=edge"
        "--exec-timeout=5s"
      ];
    };
  };
  # By which the firewall lets strangers in to the mirage.
  networking.nftables.enable = true;
}
