//! What stands between a conviction and a block: time that can be trusted, vouchers, the brake; and what makes of many
//! convictions one.

mod brake;
mod clock;
mod sweep;
mod vouchers;

pub use brake::{Brake, Braking};
pub(crate) use clock::JUMP;
pub use clock::{Clock, Tick};
pub(crate) use sweep::sketch;
pub use sweep::{Sweep, SweepTable, Widening};
pub use vouchers::{Voucher, Vouchers};
