local old = { mila = "long", cpu_jobs = "long" }
local kinds = { ["48gb"] = true, ["80gb"] = true, turing = true, ampere = true }

function rules(job)
  local gpus, kind = gpus_of(job)
  local partition = job.partition or "long"
  partition = old[partition] or partition
  if gpus == 0 and (partition == "main" or partition == "long") then partition = partition .. "-cpu" end
  job.partition = partition
  if kinds[kind] then
    for _, field in ipairs({ "tres_per_node", "tres_per_job", "tres_per_task", "tres_per_socket" }) do
      if job[field] then job[field] = string.gsub(job[field], ":" .. kind, "") end
    end
    job.features = (job.features and job.features .. "&" or "") .. kind
  end
  return slurm.SUCCESS
end
