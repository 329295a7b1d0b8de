import { useEffect, useRef } from "preact/hooks";

/** Something over the page; Escape, the button and a click beside it close it, and focus goes back to where it was. */
export function Dialog({ label, onClose, children }) {
  const element = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before?.focus?.();
  }, []);
  return (
    <dialog ref={element} class="dialog" aria-label={label} onClose={onClose} onClick={(event) => event.target === element.current && onClose()}>
      <div class="inside">
        <p class="head"><button type="button" class="quiet close" data-testid="dialog-close" onClick={onClose}>Close</button></p>
        {children}
      </div>
    </dialog>
  );
}
