//! Numbers of nftables' netlink interface, under the kernel's names (linux/netfilter/nf_tables.h, linux/netfilter.h).

/// NFNL_SUBSYS_NFTABLES: the upper byte of a message's type; the lower byte is one of `NFT_MSG_*`.
pub(super) const SUBSYSTEM: u8 = 10;

/// The family `inet`, the first byte of a message.
pub(super) const NFPROTO_INET: u8 = 1;

/// The length of `struct nfgenmsg`, after which the attributes of a message begin.
pub(super) const HEADER: usize = 4;

pub(super) const NFT_MSG_GETTABLE: u8 = 1;
pub(super) const NFT_MSG_DELTABLE: u8 = 2;
pub(super) const NFT_MSG_GETCHAIN: u8 = 4;
pub(super) const NFT_MSG_GETRULE: u8 = 7;
pub(super) const NFT_MSG_GETSET: u8 = 10;
pub(super) const NFT_MSG_NEWSETELEM: u8 = 12;
pub(super) const NFT_MSG_GETSETELEM: u8 = 13;
pub(super) const NFT_MSG_DELSETELEM: u8 = 14;
pub(super) const NFT_MSG_NEWGEN: u8 = 15;

/// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE.
pub(super) const NFTA_TABLE: u16 = 1;
pub(super) const NFTA_TABLE_FLAGS: u16 = 2;
pub(super) const NFT_TABLE_F_DORMANT: u32 = 1;

pub(super) const NFTA_CHAIN_NAME: u16 = 3;
pub(super) const NFTA_CHAIN_HOOK: u16 = 4;
pub(super) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(super) const NFTA_HOOK_PRIORITY: u16 = 2;

pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_HANDLE: u16 = 3;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(super) const NFTA_RULE_USERDATA: u16 = 7;
pub(super) const NFTA_EXPR_NAME: u16 = 1;
pub(super) const NFTA_EXPR_DATA: u16 = 2;
pub(super) const NFTA_LOOKUP_SET: u16 = 1;
pub(super) const NFTA_IMMEDIATE_DATA: u16 = 2;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
pub(super) const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_REJECT_TYPE: u16 = 1;
pub(super) const NFT_REJECT_TCP_RST: u32 = 1;

/// Verdicts: drop and accept.
pub(super) const NF_DROP: u32 = 0;
pub(super) const NF_ACCEPT: u32 = 1;

/// NFTA_SET_NAME, NFTA_SET_ELEM_LIST_SET.
pub(super) const NFTA_SET: u16 = 2;
pub(super) const NFTA_SET_DESC: u16 = 9;
pub(super) const NFTA_SET_DESC_SIZE: u16 = 1;
pub(super) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(super) const NFTA_LIST_ELEM: u16 = 1;
pub(super) const NFTA_SET_ELEM_KEY: u16 = 1;
pub(super) const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
pub(super) const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
pub(super) const NFTA_SET_ELEM_USERDATA: u16 = 6;

pub(super) const NFTA_GEN_PROC_PID: u16 = 2;
pub(super) const NFTA_GEN_PROC_NAME: u16 = 3;

/// NFTNL_UDATA_RULE_COMMENT, NFTNL_UDATA_SET_ELEM_COMMENT: a comment among the data that the kernel keeps for nft (libnftnl/udata.h).
pub(super) const UDATA_COMMENT: u8 = 0;
