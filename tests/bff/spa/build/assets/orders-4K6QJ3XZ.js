export const title = "Order 5";
