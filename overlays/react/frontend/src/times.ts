/** Hours and minutes; seconds only in the last minute. */
export function duration(seconds: number): string {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  if (hours) return minutes ? `${hours} h ${minutes} min` : `${hours} h`;
  return minutes ? `${minutes} min` : `${Math.floor(Math.max(seconds, 0))} s`;
}

export function ago(seconds: number): string {
  return seconds < 60 ? "just now" : `${duration(seconds)} ago`;
}
