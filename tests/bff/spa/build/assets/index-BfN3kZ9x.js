import { greeting } from "greeting";

const routes = { "/": async () => greeting, "/orders/5": async () => (await import("./orders-4K6QJ3XZ.js")).title };

async function show() {
  const route = routes[location.pathname] ?? (async () => "Nothing here");
  const title = document.createElement("h1");
  title.textContent = await route();
  const link = document.createElement("a");
  link.href = "/orders/5";
  link.textContent = "Order 5";
  link.onclick = (event) => {
    event.preventDefault();
    history.pushState(null, "", link.href);
    show();
  };
  document.getElementById("root").replaceChildren(title, link);
}

show();
