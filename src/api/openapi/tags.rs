//! The groups that operations stand in.

pub const PUBLISHING: &str = "Publishing";
pub const SUBSCRIBING: &str = "Subscribing";
pub const MONITORING: &str = "Monitoring";
pub const TOKENS: &str = "Tokens";
pub const DELIVERY: &str = "Delivery";
pub const CALLS: &str = "Calls";
pub const CONTROL: &str = "Control";
pub const MESSAGES: &str = "Messages";
