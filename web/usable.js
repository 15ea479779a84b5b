// The ends of a strength slider: from where to where the direction is usable, as Inject Direction tells after a run.

import { app } from "../../scripts/app.js"

function setEnds(node, ends) {
  const strength = node.widgets.find((widget) => widget.name === "strength")
  const [min, max] = ends
  // what was typed stays, wherever it lies
  Object.assign(strength.options, { min: Math.min(min, strength.value), max: Math.max(max, strength.value) })
  node.setDirtyCanvas(true)
}

app.registerExtension({
  name: "hspace.usable",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "HSpaceInject") return
    const onExecuted = nodeType.prototype.onExecuted
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.call(this, output)
      if (output?.usable) setEnds(this, output.usable)
    }
  },
})
