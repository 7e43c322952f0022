export function libraryPage(main) { return { update() {}, unmount() {} }; }
