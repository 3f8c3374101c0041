/** The page for admins: deletes the to-dos of all users, at an API that only admins may call. */

import { $, call, report } from "./page.js";

async function deleteAll() {
  await call("/api/admin/todos", { method: "DELETE" });
  return "All to-dos are deleted.";
}

$("delete-all").hidden = false;
$("delete-all").addEventListener("click", () => report($("status"), deleteAll));
