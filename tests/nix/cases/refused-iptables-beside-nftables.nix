{
  services.psentry = {
    enable = true;
    block.backends = [
      "nft"
      "iptables"
    ];
  };
  networking.nftables.enable = true;
}
