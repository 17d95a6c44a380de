/** Serves the files below `root` on the loopback address; port 0, the default, takes a free one. */
export function serve(root: string, port?: number): Promise<{ url: string; close: () => void }>
