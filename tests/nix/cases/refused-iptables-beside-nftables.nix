{
  services.psentry = {
    enable = true;
    openFirewall = true;
    block.backends = [
      "nft"
      "iptables"
    ];
  };
  networking.nftables.enable = true;
}
