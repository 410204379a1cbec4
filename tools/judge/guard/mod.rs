//! What is between a conviction and a block: time that can be trusted, vouchers, the brake; and what makes of many
//! convictions one.

mod brake;
mod clock;
mod sweep;
mod vouchers;

pub use brake::{Admission, Brake};
pub use clock::{Clock, Tick};
pub(crate) use sweep::port_bitmap;
pub use sweep::{DuePrefix, Sweep, SweepTable};
pub use vouchers::{Voucher, Vouchers};
