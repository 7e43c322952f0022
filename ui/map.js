export function mapPage(main) { return { update() {}, unmount() {} }; }
